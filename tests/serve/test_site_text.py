from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merchantguard.data.records.record import Record, record_from
from merchantguard.data.site_text import text_of
from merchantguard.serve import Scorer, SiteText

MENU = "Home\nTea\nContact us\n"
FOOTER = "\nShipping is free on Monday and paid on Tuesday."


def site(*bodies: str) -> Record:
    pages = [{"url": f"https://x.example/{n}", "text": MENU + body + FOOTER} for n, body in enumerate(bodies)]
    return record_from({"id": "x", "name": "Tea", "pages": pages}, None)


def test_what_an_earlier_page_has_is_read_once() -> None:
    text = text_of(site("We sell tea.", "We sell tea.\nOne more line."))
    assert isinstance(text, SiteText)
    read, places = text.read_once()
    assert read == f"Tea\n{MENU}We sell tea.{FOOTER}\nOne more line.\n"
    assert "".join(text.text[place] for place in places) == read


def test_a_page_may_repeat_itself_and_one_page_is_plain_text() -> None:
    read, _ = SiteText("a\na\nb\na\nc", ((0, 4), (4, 9))).read_once()
    assert read == "a\na\nb\nc"
    assert isinstance(text_of(site("We sell tea.")), str)


LINES = st.lists(st.lists(st.text("ab \r\u2028\xa0", max_size=4), max_size=4).map("\n".join), max_size=5)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(LINES)
def test_the_places_of_what_is_read_rise_and_hold_it(pages: list[str]) -> None:
    ends = np.cumsum([0, *(len(page) + 1 for page in pages)]).tolist()
    whole = "\n".join(pages)
    text = SiteText(whole, tuple((start, end - 1) for start, end in pairwise(ends)))
    read, places = text.read_once()
    assert "".join(whole[place] for place in places) == read
    assert (np.diff(places) > 0).all()
    lines = {" ".join(line.split()) for page in pages for line in page.splitlines()}
    assert {" ".join(line.split()) for line in read.splitlines()} >= lines - {""}


def test_evidence_points_into_the_merchants_own_text_and_fewer_windows_are_read(bundle_path: Path) -> None:
    scorer = Scorer.load(bundle_path, threads=1)
    record = site("We sell tea.", "A walrus comes with each order.", "We sell crimson  goods.")
    [once] = scorer.assess_many([text_of(record)])
    whole = scorer.assess(record.text)
    assert once.decision == whole.decision == "block"
    assert once.windows < whole.windows
    assert {each.policy for each in once.findings} == {each.policy for each in whole.findings}
    for finding in once.findings:
        for span in finding.spans:
            assert record.text[span.start : span.end] == span.text
        for start, end in finding.windows:
            assert 0 <= start < end <= len(record.text)
    [finding] = [each for each in once.findings if each.policy == "alpha"]
    part = next(part for part in record.parts if part.start <= finding.spans[0].start < part.end)
    assert part.url == "https://x.example/2"


def test_the_same_characters_on_other_pages_are_another_text(bundle_path: Path) -> None:
    scorer = Scorer.load(bundle_path, threads=1)
    lines = "A walrus comes with each order. Call us.\n" * 4
    half = len(lines) // 2
    texts = [lines, SiteText(lines, ((0, half), (half, len(lines)))), lines]
    first, site_text, again = scorer.assess_many(texts)
    assert site_text.windows < first.windows == again.windows

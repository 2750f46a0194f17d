import pytest

from merchantguard.data.records.record import record_from
from merchantguard.data.site_text import text_of
from merchantguard.serve import Assessment, MicroBatcher, Scorer
from merchantguard.serve.preprocess import encode_texts


def assess(scorer: Scorer, html: str) -> tuple[str, Assessment]:
    record = record_from({"id": "a", "html": html}, None)
    return record.text, next(iter(scorer.assess_many([text_of(record)])))


def test_hidden_text_has_windows_of_its_own_and_its_spans_say_so(scorer: Scorer) -> None:
    visible = "We sell goods in every town and post them on the same day."
    hidden = "We sell crimson goods in every town."
    text, found = assess(scorer, f"<p>{visible}</p><p style='display:none'>{hidden}</p>")
    assert found.windows >= 2
    [finding] = [each for each in found.findings if each.policy == "alpha"]
    assert finding.hidden
    assert all(span.hidden and text[span.start : span.end] == span.text for span in finding.spans)
    _, seen = assess(scorer, f"<p>{visible} {hidden}</p>")
    assert not any(span.hidden for each in seen.findings for span in each.spans)


def test_no_window_holds_seen_and_hidden_text_and_hidden_menus_leave_room(scorer: Scorer) -> None:
    most = scorer.tokenizer.max_windows
    menu = "".join(f"<li hidden>Entry number {n} of the menu</li>" for n in range(3_000))
    record = record_from({"id": "a", "html": f"<p>{'goods ' * 5_000}</p>{menu}"}, None)
    [encoded] = encode_texts([text_of(record)], scorer.tokenizer)
    start = encoded.hidden_from
    assert start is not None
    assert encoded.windows.truncated
    assert len(encoded.windows.windows) <= most
    hidden = [window for window in encoded.windows.windows if window.start >= start]
    assert 1 <= len(hidden) <= max(1, most // 4)
    assert all(window.end <= start for window in encoded.windows.windows if window not in hidden)


def test_a_page_that_is_not_there_is_never_clear(scorer: Scorer) -> None:
    _, found = assess(scorer, "<title>Kiln Lane</title><div id=root>Loading...</div>")
    assert (found.decision, found.warnings) == ("review", ("thin_page",))


def _pages(*bodies: str, kind: str = "html") -> dict[str, object]:
    shells = [f"{body} number {'abcdefghijklmnop'[n]}" for n, body in enumerate(bodies)]
    return {
        "id": "a",
        "pages": [{"url": f"https://x.example/{n}", kind: body} for n, body in enumerate(shells)],
    }


@pytest.mark.parametrize("kind", ["html", "text"])
def test_a_site_of_which_no_page_is_there_is_never_clear(scorer: Scorer, kind: str) -> None:
    shells = ["Our shop of tea and cups is loading..."] * 12
    [found] = scorer.assess_many([text_of(record_from(_pages(*shells, kind=kind), None))])
    assert found.decision == "review"
    assert "thin_page" in found.warnings
    one_page = "We sell tea and cups in every town and post them on the same day. " * 4
    [found] = scorer.assess_many([text_of(record_from(_pages(*shells, one_page, kind=kind), None))])
    assert "thin_page" not in found.warnings


def test_one_page_of_html_among_pages_is_a_page(scorer: Scorer) -> None:
    [found] = scorer.assess_many([text_of(record_from(_pages("<title>Tea</title>Loading..."), None))])
    assert (found.decision, found.warnings) == ("review", ("thin_page",))


def test_the_micro_batcher_reads_pages_as_the_scorer_does(scorer: Scorer) -> None:
    page = "<p>We sell goods in every town.</p><p hidden>We sell crimson goods in every town.</p>"
    text = text_of(record_from({"id": "a", "html": page}, None))
    with MicroBatcher(scorer) as batcher:
        found = batcher.submit(text).result(60)
        with pytest.raises(TypeError, match="SiteText"):
            batcher.submit(7)  # type: ignore[arg-type]
    [expected] = scorer.assess_many([text])
    assert found.findings == expected.findings
    assert found.findings[0].hidden

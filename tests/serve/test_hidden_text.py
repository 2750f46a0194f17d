from merchantguard.data.records.record import record_from
from merchantguard.serve import Assessment, Scorer
from merchantguard.serve.preprocess import encode_texts
from merchantguard.data.site_text import text_of


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

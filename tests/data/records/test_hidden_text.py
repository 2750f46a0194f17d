from merchantguard.data.cleaning.text import clean_parts
from merchantguard.data.records.record import record_from, record_to_row


def test_hidden_text_stands_behind_what_is_seen_and_survives_a_round_trip() -> None:
    pages = [
        {"url": "https://a.example", "html": "<p>Cups<p hidden>Kratom capsules"},
        {"url": "https://a.example/b", "text": "Plates", "hidden_text": "Loaded dice"},
    ]
    record = record_from({"id": "a", "name": "Kiln", "pages": pages}, None)
    assert record.text == "Kiln\nCups\nPlates\nKratom capsules\nLoaded dice"
    assert record.hidden_from == record.text.index("Kratom")
    assert [part.name for part in record.parts if part.is_hidden] == ["hidden[0]", "hidden[1]"]
    again = record_from(record_to_row(record), None)
    assert (again.text, again.hidden_from) == (record.text, record.hidden_from)


def test_a_text_without_hidden_pieces_is_as_before() -> None:
    record = record_from({"id": "a", "html": "<p>Cups"}, None)
    assert (record.text, record.hidden_from, len(record.parts)) == ("Cups", None, 1)


def test_hidden_text_is_cleaned_apart_and_keeps_its_places() -> None:
    raw = "we sell v\n a p e  kits"
    found, start = clean_parts(raw, 10)
    assert start is not None
    assert found.text[:start] == "we sell v\n"
    assert raw[found.starts[start] : found.ends[-1]] == "a p e  kits"
    assert clean_parts("v4pe", None)[0].text == "vape"
    assert clean_parts("   Kratom", 3)[1] == 0

"""The record contract: bodies, parts, labels, evidence, and a reason for each refusal."""

import datetime
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.core.errors import RecordError
from merchantguard.data.records import record as record_module
from merchantguard.data.records.record import Record, label_matrix, parse_record, record_from, record_to_row
from merchantguard.data.taxonomy import Policy, Taxonomy

TAXONOMY = Taxonomy(
    version=1,
    policies=tuple(Policy(name, name.title(), "restricted", "x", "") for name in ("tea", "salt", "oil")),
)


def read(**fields: object) -> Record:
    return record_from({"id": "a", "text": "we sell tea", **fields}, TAXONOMY)


def pieces(record: Record) -> dict[str, str]:
    return {part.name: record.text[part.start : part.end] for part in record.parts}


def test_name_description_and_text_are_joined_with_their_places():
    record = read(name="Leaf", description="A shop", domain="leaf.example", country="IE", form="about")
    assert record.text == "Leaf\nA shop\nwe sell tea"
    assert pieces(record) == {"name": "Leaf", "description": "A shop", "text": "we sell tea"}
    assert (record.domain, record.country, record.extra) == ("leaf.example", "IE", {"form": "about"})


def test_pages_keep_number_and_address_and_empty_ones_are_left_out():
    pages = [{"url": "/a", "text": "one"}, {"url": "/b", "text": ""}, {"text": "three"}]
    record = record_from({"id": "a", "pages": pages}, TAXONOMY)
    assert record.text == "one\nthree"
    assert pieces(record) == {"pages[0]": "one", "pages[2]": "three"}
    assert [part.url for part in record.parts] == ["/a", None]


def test_html_becomes_visible_text():
    record = record_from({"id": "a", "html": "<p>Black <b>tea</b></p><script>hidden()</script>"}, TAXONOMY)
    assert "Black tea" in record.text
    assert "hidden" not in record.text
    assert record.parts[0].name == "html"
    mixed = record_from({"id": "a", "pages": [{"html": "<p>tea</p>"}, {"text": "<p>"}]}, TAXONOMY)
    assert mixed.text.strip().endswith("<p>")


def test_absent_labels_are_unknown_and_an_empty_list_is_compliant():
    assert read().unknown == TAXONOMY.ids
    assert read(labels=None).unknown == TAXONOMY.ids
    assert read(labels=[]).unknown == ()
    assert read(labels=["tea"], unknown=["*"]).unknown == ("salt", "oil")
    assert record_from({"id": "a", "text": "x"}, None).unknown == ("*",)


@pytest.mark.parametrize("cell", ["tea;oil", "tea|oil", " tea ; oil ;", '["tea", "oil"]'])
def test_labels_from_a_table_cell(cell):
    assert read(labels=cell).labels == ("tea", "oil")


def test_evidence_is_kept_and_may_come_as_json_or_pairs():
    expected = {"tea": ("sell tea",)}
    for evidence in ({"tea": ["sell tea"], "oil": None}, '{"tea": ["sell tea"]}', [("tea", ["sell tea"])]):
        assert read(labels=["tea"], evidence=evidence).evidence == expected


def test_dates_from_a_table_become_text():
    assert read(collected_at=datetime.date(2026, 3, 1)).collected_at == "2026-03-01"
    assert read(collected_at="2026-03-01T10:00:00Z").collected_at == "2026-03-01T10:00:00Z"


def test_number_as_id():
    assert record_from({"id": 7, "text": "x"}, None).id == "7"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": None}, "`id` is missing"),
        ({"id": ""}, "`id` is missing"),
        ({"id": True}, "id: True is not text"),
        ({"id": 1.5}, "id: 1.5 is not text"),
        ({"id": "a\x1b[2J"}, r"id: 'a\x1b[2J' holds a control character"),
        ({"id": "\ud800"}, "half a surrogate pair"),
        ({"id": "x" * 1001}, "longer than 1,000"),
        ({"text": None}, "one of `text`, `html` or `pages` must be given"),
        ({"html": "<p>x"}, "this row has text and html"),
        ({"text": 3}, "text: 3 is not text"),
        ({"text": " \n"}, "the document is empty"),
        ({"name": ["x"]}, "name: ['x'] is not text"),
        ({"domain": 5}, "domain: 5 is not text"),
        ({"country": {}}, "country: {} is not text"),
        ({"collected_at": "yesterday"}, "collected_at: 'yesterday' is not an ISO date"),
        ({"labelled_at": 20260301}, "labelled_at: 20260301 is not text"),
        ({"labels": 5}, "labels: 5 is not a list"),
        ({"labels": [5]}, "labels: 5 is not a policy id"),
        ({"labels": ["te"]}, "labels: 'te' is not a policy of the taxonomy; did you mean 'tea'?"),
        ({"labels": ["tea", "tea"]}, "labels: 'tea' is given twice"),
        ({"labels": ["*"]}, 'labels: "*" is meant for `unknown`'),
        ({"labels": ["tea"], "unknown": ["tea"]}, "unknown: 'tea' is also among the labels"),
        ({"labels": '["tea"'}, "is not JSON"),
        ({"labels": ["tea"], "evidence": {"oil": ["tea"]}}, "evidence: 'oil' is not among"),
        ({"labels": ["tea"], "evidence": {"tea": ["Tea"]}}, "evidence.tea: 'Tea' is not in the document"),
        ({"labels": ["tea"], "evidence": {"tea": "tea"}}, "is not a list of quotes"),
        ({"labels": ["tea"], "evidence": {"tea": [""]}}, "evidence.tea: '' is not a quote"),
        ({"labels": ["tea"], "evidence": '{"tea": ["tea"], "tea": []}'}, "given twice"),
        ({"labels": ["tea"], "evidence": ["tea"]}, "is not an object"),
        ({"text": None, "pages": []}, "pages: [] is not a list"),
        ({"text": None, "pages": ["x"]}, "pages[0]: 'x' is not an object"),
        ({"text": None, "pages": [{"url": "/"}]}, "pages[0]: give text or html"),
        ({"text": None, "pages": [{"text": "", "html": ""}]}, "pages[0]: give text or html"),
        ({"text": None, "pages": [{"text": "x", "title": "y"}]}, "pages[0]: unknown key 'title'"),
        ({"text": None, "pages": [{"text": "x"}, {"text": 1}]}, "pages[1].text: 1 is not text"),
        ({"text": None, "pages": [{"text": "x"}] * 10_001}, "10,001 pages"),
    ],
)
def test_each_error_names_row_field_and_value(row, reason):
    with pytest.raises(RecordError) as caught:
        parse_record({"id": "a", "text": "we sell tea", **row}, TAXONOMY, row_number=12)
    assert str(caught.value).startswith("row 12: ")
    assert reason in str(caught.value)


def test_hostile_values_are_shown_short_and_escaped():
    with pytest.raises(RecordError) as caught:
        read(labels=["\x1b[31m\u202e" + "A" * 5000])
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_documents_are_bounded(monkeypatch):
    monkeypatch.setattr(record_module, "MAX_DOCUMENT_CHARACTERS", 10)
    assert record_from({"id": "a", "name": "four", "text": "12345"}, None).text == "four\n12345"
    with pytest.raises(RecordError, match="text: the document would pass 10 characters"):
        record_from({"id": "a", "name": "four", "text": "123456"}, None)


def test_label_matrix():
    records = [
        read(labels=["oil"]),
        read(labels=["tea"], unknown=["salt"]),
        read(),
        record_from({"id": "d", "text": "x", "labels": ["salt"], "unknown": ["*"]}, None),
    ]
    labels = label_matrix(records, TAXONOMY)
    np.testing.assert_array_equal(labels.values, [[0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(labels.mask, [[1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0]])
    assert label_matrix([], TAXONOMY).values.shape == (0, 3)
    with pytest.raises(RecordError, match="'beer' is not a policy"):
        label_matrix([record_from({"id": "a", "text": "x", "labels": ["beer"]}, None)], TAXONOMY)


TEXT = st.text(max_size=20)


@given(
    name=st.none() | TEXT,
    description=st.none() | TEXT,
    body=TEXT.map(lambda text: {"text": text})
    | st.lists(TEXT, min_size=1, max_size=3).map(
        lambda texts: {"pages": [{"url": f"/{n}", "text": text} for n, text in enumerate(texts)]}
    ),
    labels=st.none() | st.lists(st.sampled_from(TAXONOMY.ids), unique=True),
)
def test_parts_tile_the_document_and_a_row_written_reads_back(name, description, body, labels):
    row = {"id": "a", "name": name, "description": description, "labels": labels, **body}
    texts = [name or "", description or "", body.get("text", "")]
    texts += [page["text"] for page in body.get("pages", [])]
    if not "".join(texts).strip():
        with pytest.raises(RecordError, match="document is empty"):
            record_from(row, TAXONOMY)
        return
    record = record_from(row, TAXONOMY)
    assert record.text == "\n".join(record.text[part.start : part.end] for part in record.parts)
    again = record_from(json.loads(json.dumps(record_to_row(record))), TAXONOMY)
    assert (again.text, again.labels, again.unknown) == (record.text, record.labels, record.unknown)
    assert [(part.start, part.end, part.url) for part in again.parts] == [
        (part.start, part.end, part.url) for part in record.parts
    ]

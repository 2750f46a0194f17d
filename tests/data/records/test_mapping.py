"""A user's own export: other names of columns, semicolons, and what empty labels mean."""

import json

import pytest

from merchantguard.core.errors import RecordError
from merchantguard.data.records.mapping import ColumnMapping, parse_columns, read_columns
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import parse_record
from merchantguard.data.taxonomy import load_taxonomy

EXPORT = """merchant_id;site_text;label_codes;annotator;domain
m1;We sell, fine bowls;;ann;https://www.shop.example.co.uk/x
m2;Buy degrees now;academic_cheating,counterfeit;ann;b.example
m3;"Nobody; looked";;;c.example
"""
COLUMNS = "id=merchant_id,text=site_text,labels=label_codes"


@pytest.fixture
def export(tmp_path):
    path = tmp_path / "export.csv"
    path.write_text(EXPORT)
    return path


def _read(path, mapping):
    return read_records([path], load_taxonomy(), strict=True, mapping=mapping).records


def test_a_semicolon_export_is_read_by_its_own_names(export):
    bowls, degrees, quoted = _read(export, ColumnMapping(parse_columns(COLUMNS)))
    assert (bowls.id, bowls.text, bowls.domain) == ("m1", "We sell, fine bowls", "example.co.uk")
    assert degrees.labels == ("academic_cheating", "counterfeit")
    assert quoted.text == "Nobody; looked"
    # An empty cell of labels means compliant unless asked otherwise.
    assert not bowls.unknown
    assert not quoted.unknown


def test_blank_labels_follow_the_rule(export):
    columns = parse_columns(COLUMNS)
    reviewed = _read(export, ColumnMapping(columns, blank="reviewed"))
    assert [bool(record.unknown) for record in reviewed] == [False, False, True]
    unlabelled = _read(export, ColumnMapping(columns, blank="unlabelled"))
    assert [bool(record.unknown) for record in unlabelled] == [True, False, True]


def test_json_lines_are_mapped_and_a_displaced_field_is_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"id": 1, "text": "short", "site_text": "the whole site", "labels": []}))
    (record,) = _read(path, ColumnMapping(parse_columns("text=site_text")))
    assert record.text == "the whole site"
    assert record.extra == {"text_given": "short"}


def test_columns_are_told(export, tmp_path):
    found = read_columns(export)
    assert found.names == ("merchant_id", "site_text", "label_codes", "annotator", "domain")
    assert found.delimiter == ";"
    tabs = tmp_path / "tabs.csv"
    tabs.write_text("id\ttext\n1\ta, b; c\n")
    assert read_columns(tabs).delimiter == "\t"
    assert _read(tabs, ColumnMapping())[0].text == "a, b; c"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("id=merchant", "has no column 'merchant' for id; it has 'merchant_id, site_text"),
        ("id=merchant_id", "has no column text (nor html, pages)"),
        ("text=site_text", "has no column id; it has"),
    ],
)
def test_a_missing_column_names_those_that_are_there(export, columns, expected):
    with pytest.raises(RecordError) as raised:
        _read(export, ColumnMapping(parse_columns(columns)))
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id", "write it as FIELD=COLUMN"),
        ("id=a,id=b", "id is given twice"),
        ("ident=a", "'ident' is not a field"),
        ("id=a,text=a", "'a' is given to two fields"),
    ],
)
def test_wrong_mappings_are_refused(text, expected):
    with pytest.raises(RecordError, match=expected):
        ColumnMapping(parse_columns(text))


def test_a_column_name_may_hold_a_comma():
    assert parse_columns('id=ID, "text=Site, text"') == {"id": "ID", "text": "Site, text"}


@pytest.mark.parametrize(
    ("given", "domain"),
    [
        ("https://www.shop.example.co.uk/x?y=1", "example.co.uk"),
        ("www.shop.example/", "shop.example"),
        ("shop.example:8443", "shop.example"),
        ("a.myshopify.com", "a.myshopify.com"),
        ("n/a", "n/a"),
    ],
)
def test_the_domain_of_a_url_is_its_registered_one(given, domain):
    assert parse_record({"id": 1, "text": "bowls", "domain": given}, None, row_number=1).domain == domain

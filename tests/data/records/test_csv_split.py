"""CSV that people and programs really write: open quotes, lists as pandas prints them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.core.errors import RecordError
from merchantguard.data.records.csv_split import split_rows
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import record_from


def split(content: bytes, limit: int = 1_000_000) -> list[list[str] | None]:
    lines = [(line, True) for line in content.splitlines(keepends=True)]
    rows = list(split_rows(lines, limit=limit))
    assert b"".join(line for row in rows for line in row.lines) == content
    return [row.cells for row in rows]


def test_a_quote_that_is_never_closed_costs_its_own_row(tmp_path):
    rows = "".join(f"a{n},shop number {n} sells mugs\n" for n in range(1, 1000))
    path = tmp_path / "rows.csv"
    path.write_text('id,text\na0,"5 inch pipe and more\n' + rows)
    read = read_records([path], None)
    assert [record.id for record in read.records] == [f"a{n}" for n in range(1, 1000)]
    ((row, reason),) = [(fault.row, fault.reason) for fault in read.faults]
    assert row == 2
    assert "a quote that opens in this row is not closed" in reason


@pytest.mark.parametrize(
    "later", ['b9,"tea, fine"\n', 'b9,"tea\nand mugs"\n', 'b9,5" pipe\n', 'b9,pipe of 5"\n']
)
def test_quotes_of_later_rows_do_not_matter(later):
    content = f'id,text\na,"5 inch\nb1,x\nb2,y\nb3,z\n{later}c,last\n'.encode()
    cells = split(content)
    ids = [row[0] for row in cells if row]
    if (
        later == 'b9,pipe of 5"\n'
    ):  # a closing quote at the end of a row: nothing tells it from a text of many lines
        assert ids == ["id", "a", "c"]
    else:
        assert ids == ["id", "b1", "b2", "b3", "b9", "c"]


def test_lines_inside_a_broken_text_do_not_become_rows():
    content = b'id,text\na,"we sell 5" pipes\nAlso, tea\nand, mugs"\nb,good\n'
    assert split(content) == [["id", "text"], None, ["b", "good"]]


def test_every_row_with_an_open_quote():
    content = b"id,text\n" + b'a,"5 inch\n' * 500 + b"b,good\n"
    assert split(content)[-1] == ["b", "good"]


def test_a_row_too_long_gives_its_lines_back():
    assert split(b'id,text\nx,"open\n' + b"n,tea\n" * 50, limit=100)[2:] == [["n", "tea"]] * 50


@given(st.text('ab",\n', max_size=60))
def test_no_byte_is_lost_whatever_the_quotes(text):
    split(("x,y\n" + text).encode())


@given(st.lists(st.tuples(st.text('ab",\n ', max_size=6), st.text('ab",\n ', max_size=9)), max_size=6))
def test_valid_rows_are_split_as_they_were_written(rows):
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    content = "".join(f"{quoted(one)},{quoted(two)}\n" for one, two in rows)
    assert split(content.encode()) == [list(row) for row in rows]


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("['alcohol']", ("alcohol",)),
        ("['a', 'b']", ("a", "b")),
        ("['a' 'b']", ("a", "b")),
        ("['a'\n 'b',]", ("a", "b")),
        (" [\"a\", 'b'] ", ("a", "b")),
        ('["a", "b"]', ("a", "b")),
        ("[]", ()),
        ("[ ]", ()),
    ],
)
def test_lists_as_pandas_and_numpy_print_them(cell, labels):
    assert record_from({"id": "1", "text": "t", "labels": cell}, None).labels == labels
    assert record_from({"id": "1", "text": "t", "labels": [], "unknown": cell}, None).unknown == labels


@pytest.mark.parametrize(
    "cell", ["['a'", "[a]", "['a', 3]", "['a'] + ['b']", "[__import__('os')]", "[" * 9_999]
)
def test_other_expressions_are_not_lists(cell):
    with pytest.raises(RecordError, match=r"labels: .* is not JSON, nor a list such as"):
        record_from({"id": "1", "text": "t", "labels": cell}, None)


def test_a_table_that_pandas_wrote(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("id,text,labels\na,beer shop,['alcohol']\nb,tea shop,[]\n")
    assert [record.labels for record in read_records([path], None, strict=True).records] == [("alcohol",), ()]

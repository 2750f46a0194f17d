"""Corrected data with provenance, and the old bytes back."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from merchantguard.audit.apply.apply import CHANGES, PROVENANCE, apply_audit, revert_data
from merchantguard.audit.storage.items import Answer, AnswerKind, Item
from merchantguard.audit.storage.journal import Journal
from merchantguard.audit.storage.store import ScanSummary, write_scan
from merchantguard.audit_cli import main
from merchantguard.core.errors import AuditError
from merchantguard.data.records.readers import read_records, write_records
from merchantguard.data.taxonomy import Taxonomy, load_taxonomy

FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
ROWS: list[dict[str, Any]] = [
    {
        "id": "a",
        "text": "crimson, and =1+1",
        "labels": ["crimson"],
        "evidence": {"crimson": ["crimson"]},
        "n": 1.50,
    },
    {"id": "b", "text": "walrus 'quoted' \"twice\"\nand on", "labels": ["walrus"]},
    {"id": "c", "text": "nobody labelled this one", "labels": None, "unknown": ["*"]},
    {"id": "d", "text": "compliant", "labels": []},
]


def _answer(record: str, policy: str, kind: AnswerKind, reviewer: str = "ann", **fields: Any) -> Answer:
    base = Answer(reviewer, record, policy, kind, "first", "2026-11-01T10:00:00+00:00", 900, "test 1", {})
    return replace(base, **fields)


def _item(record: str, policy: str, **fields: Any) -> Item:
    return replace(
        Item(record, policy, True, "wrong_positive", p_label_error=0.9, model_probability=0.1), **fields
    )


def _audit(
    folder: Path,
    taxonomy: Taxonomy,
    paths: Sequence[Path],
    answers: Sequence[Answer],
    items: Sequence[Item] = (),
) -> Path:
    read = read_records(paths, taxonomy)
    write_scan(
        folder,
        taxonomy=taxonomy,
        records=read.records,
        duplicates=range(len(read.records)),
        items=items,
        summary=ScanSummary(files=read.files),
    )
    journal = Journal(folder)
    for answer in answers:
        journal.append(answer)
    journal.close()
    return folder


@pytest.fixture
def taxonomy(taxonomy_file: Path) -> Taxonomy:
    return load_taxonomy(taxonomy_file)


@pytest.mark.parametrize("suffix", FORMATS)
def test_decided_labels_are_written_with_their_provenance(
    tmp_path: Path, taxonomy: Taxonomy, suffix: str
) -> None:
    path = tmp_path / f"data{suffix}"
    write_records(ROWS, path)
    answers = [
        _answer("a", "crimson", "has_not"),
        _answer("b", "walrus", "has"),
        _answer("c", "walrus", "has"),
        _answer("d", "walrus", "cannot_tell"),
    ]
    audit = _audit(tmp_path / "audit", taxonomy, [path], answers, [_item("a", "crimson")])
    applied = apply_audit(audit, tmp_path / "out")
    assert (applied.cells, applied.records) == (2, 2)
    before = {record.id: record for record in read_records([path], taxonomy).records}
    after = {record.id: record for record in read_records(applied.files, taxonomy).records}
    assert list(after) == list(before)
    assert (after["a"].labels, after["a"].evidence) == ((), {})
    assert (after["c"].labels, after["c"].unknown) == (("walrus",), ("crimson",))
    for name in ("b", "d"):
        assert replace(after[name], extra={}) == replace(before[name], extra={})
    assert {after[name].text == before[name].text for name in before} == {True}
    entry = {
        "policy": "crimson",
        "old": True,
        "new": False,
        "reviewers": ["ann"],
        "answers": [1],
        "at": "2026-11-01T10:00:00+00:00",
        "cause": "wrong_positive",
        "item": 1,
    }
    own = after["a"].extra["audit"]
    (own,) = json.loads(own) if isinstance(own, str) else own
    assert entry.items() <= own.items()
    first, second = (json.loads(line) for line in (tmp_path / "out" / CHANGES).read_text().splitlines())
    assert first == {"record": "a", **own, "evidence": ["crimson"]}
    assert (second["record"], second["old"], second["new"], second["cause"]) == ("c", None, True, None)
    (back,) = revert_data(tmp_path / "out", tmp_path / "back")
    assert back.read_bytes() == path.read_bytes()


def test_rows_that_do_not_change_keep_their_bytes_bad_ones_too(tmp_path: Path, taxonomy: Taxonomy) -> None:
    lines = [
        b'\xef\xbb\xbf{"id":"a",  "text":"crimson \\ud83d", "labels":["crimson"]}\r\n',
        b"not JSON\n",
        b"\n",
        b'{"id" : "b", "text":"walrus", "labels":[], "n": 1.500}\n',
        b'{"id": "a", "text": "the id is taken", "labels": ["crimson"]}\n',
        b'{"id": "z", "text": "walrus", "labels": [] }',
    ]
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"".join(lines))
    answers = [_answer("a", "crimson", "has_not"), _answer("z", "walrus", "has")]
    apply_audit(_audit(tmp_path / "audit", taxonomy, [path], answers), tmp_path / "out")
    after = (tmp_path / "out" / "data.jsonl").read_bytes().splitlines(keepends=True)
    assert after[1:5] == lines[1:5]
    assert after[0].startswith(b'\xef\xbb\xbf{"id"')
    assert after[0].endswith(b"}\r\n")
    assert not after[5].endswith(b"\n")
    assert json.loads(after[0].decode("utf-8-sig"))["text"] == "crimson \ud83d"


def test_a_table_keeps_its_other_cells_and_its_unreadable_rows(tmp_path: Path, taxonomy: Taxonomy) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(
        b'id,text, labels ,note\r\na,"crimson\nand, more",crimson,\'=1+1\r\ntoo,few\r\n"b",  walrus ,"",x\r\n'
    )
    answers = [_answer("a", "crimson", "has_not"), _answer("b", "crimson", "has_not")]
    apply_audit(_audit(tmp_path / "audit", taxonomy, [path], answers), tmp_path / "out")
    after = (tmp_path / "out" / "data.csv").read_bytes()
    assert after.startswith(b'id,text, labels ,note,audit\r\na,"crimson\nand, more",,\'=1+1,')
    assert after.endswith(b'too,few\r\n"b",  walrus ,"",x,\r\n')


def test_a_table_without_labels_stays_unlabelled_where_nobody_decided(
    tmp_path: Path, taxonomy: Taxonomy
) -> None:
    path = tmp_path / "data.csv"
    path.write_text("id,text\na,crimson\nb,walrus\n")
    audit = _audit(tmp_path / "audit", taxonomy, [path], [_answer("a", "crimson", "has")])
    applied = apply_audit(audit, tmp_path / "out")
    a, b = read_records(applied.files, taxonomy).records
    assert (a.labels, a.unknown) == (("crimson",), ("walrus",))
    assert (b.labels, b.unknown) == ((), ("crimson", "walrus"))


@pytest.mark.parametrize("codec", ["NONE", "ZSTD"])
@pytest.mark.parametrize("nested", ["text", "map", "struct"])
def test_parquet_keeps_its_types_compression_and_metadata(
    tmp_path: Path, taxonomy: Taxonomy, nested: str, codec: str
) -> None:
    quotes = pa.list_(pa.string())
    kinds: dict[str, tuple[Any, Any, list[Any], list[Any]]] = {
        "text": (pa.string(), pa.large_string(), ["crimson;walrus", None], ['{"crimson": ["one"]}', None]),
        "map": (
            pa.large_list(pa.string()),
            pa.map_(pa.string(), quotes),
            [["crimson", "walrus"], None],
            [[("crimson", ["one"])], None],
        ),
        "struct": (
            pa.list_(pa.dictionary(pa.int32(), pa.string())),
            pa.struct([("crimson", quotes), ("walrus", quotes)]),
            [["crimson", "walrus"], None],
            [{"crimson": ["one"], "walrus": ["one"]}, None],
        ),
    }
    label_type, evidence_type, labels, evidence = kinds[nested]
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int16()),
            "text": ["one", "two"],
            "labels": pa.array(labels, label_type),
            "unknown": pa.array([None, None], pa.null()),
            "evidence": pa.array(evidence, evidence_type),
            "seen": pa.array([1, None], pa.timestamp("us")),
        }
    ).replace_schema_metadata({"kept": "yes"})
    path = tmp_path / "data.parquet"
    parquet.write_table(table, path, compression=codec)
    answers = [_answer("1", "crimson", "has_not"), _answer("2", "walrus", "has")]
    applied = apply_audit(_audit(tmp_path / "audit", taxonomy, [path], answers), tmp_path / "out")
    new = parquet.read_table(applied.files[0])
    for column in ("id", "text", "labels", "evidence", "seen"):
        assert new.schema.field(column).type == table.schema.field(column).type
    assert new.schema.metadata == {b"kept": b"yes"}
    assert new.select(["id", "text", "seen"]).equals(table.select(["id", "text", "seen"]))
    stored = parquet.ParquetFile(applied.files[0]).metadata.row_group(0).column(0).compression
    assert stored == {"NONE": "UNCOMPRESSED"}.get(codec, codec)
    one, two = read_records(applied.files, taxonomy, strict=True).records
    assert (one.labels, set(one.evidence)) == (("walrus",), {"walrus"} if nested == "struct" else set())
    assert (two.labels, two.unknown) == (("walrus",), ("crimson",))


def test_gold_items_and_single_opinions_change_nothing_when_two_are_asked_for(
    tmp_path: Path, taxonomy: Taxonomy
) -> None:
    path = tmp_path / "data.jsonl"
    write_records(ROWS, path)
    answers = [
        _answer("a", "crimson", "has_not"),
        _answer("b", "walrus", "has_not"),
        _answer("b", "walrus", "has_not", reviewer="bob", stage="second"),
        _answer("d", "crimson", "has"),
        _answer("d", "crimson", "has", reviewer="bob", stage="second"),
    ]
    items = [_item("d", "crimson", cause="gold", given=False, gold_answer=False)]
    audit = _audit(tmp_path / "audit", taxonomy, [path], answers, items)
    applied = apply_audit(audit, tmp_path / "out", min_reviewers=2)
    assert applied.cells == 1
    assert [record.labels for record in read_records(applied.files, taxonomy).records] == [
        ("crimson",),
        (),
        (),
        (),
    ]


def test_an_exact_duplicate_follows_where_the_reviewer_saw_that_it_would(
    tmp_path: Path, taxonomy: Taxonomy
) -> None:
    path = tmp_path / "data.jsonl"
    write_records(ROWS, path)
    answer = _answer("b", "crimson", "has", shown={"exact_duplicates": ["d"]})
    audit = _audit(tmp_path / "audit", taxonomy, [path], [answer], [_item("b", "crimson", given=False)])
    apply_audit(audit, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / CHANGES).read_text().splitlines()]
    assert [(line["record"], line.get("duplicate_of"), line["item"]) for line in lines] == [
        ("b", None, 1),
        ("d", "b", 1),
    ]


def test_answers_on_records_that_the_data_no_longer_has_change_nothing(
    tmp_path: Path, taxonomy: Taxonomy
) -> None:
    path = tmp_path / "data.jsonl"
    write_records(ROWS, path)
    answers = [_answer("gone", "crimson", "has"), _answer("b", "walrus", "has_not")]
    assert apply_audit(_audit(tmp_path / "audit", taxonomy, [path], answers), tmp_path / "out").cells == 1


def test_data_that_changed_since_the_scan_is_refused_by_name(tmp_path: Path, taxonomy: Taxonomy) -> None:
    path = tmp_path / "data.jsonl"
    write_records(ROWS, path)
    audit = _audit(tmp_path / "audit", taxonomy, [path], [_answer("a", "crimson", "has_not")])
    moved = path.rename(tmp_path / "moved.jsonl")
    with pytest.raises(
        AuditError, match=r"data\.jsonl: does not exist; give the scanned file's new path with --data"
    ):
        apply_audit(audit, tmp_path / "out")
    assert apply_audit(audit, tmp_path / "out", data=[moved]).cells == 1
    path.write_bytes(moved.read_bytes() + b"\n")
    with pytest.raises(AuditError, match=r"data\.jsonl: has changed since it was scanned"):
        apply_audit(audit, tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_an_earlier_audit_of_the_record_is_kept_and_a_foreign_field_refused(
    tmp_path: Path, taxonomy: Taxonomy
) -> None:
    path = tmp_path / "data.jsonl"
    write_records([ROWS[0] | {"audit": [{"policy": "walrus"}]}], path)
    answers = [_answer("a", "crimson", "has_not")]
    applied = apply_audit(_audit(tmp_path / "audit", taxonomy, [path], answers), tmp_path / "out")
    (record,) = read_records(applied.files, taxonomy).records
    assert [entry["policy"] for entry in record.extra["audit"]] == ["walrus", "crimson"]
    write_records([ROWS[0] | {"audit": {"mine": 1}}], path)
    with pytest.raises(AuditError, match=r"row 1: the field `audit` contains"):
        apply_audit(_audit(tmp_path / "audit2", taxonomy, [path], answers), tmp_path / "out2")


def test_a_folder_with_other_things_is_not_replaced(tmp_path: Path, taxonomy: Taxonomy) -> None:
    path = tmp_path / "data.jsonl"
    write_records(ROWS, path)
    audit = _audit(tmp_path / "audit", taxonomy, [path], [_answer("a", "crimson", "has_not")])
    with pytest.raises(AuditError, match="is in use"):
        apply_audit(audit, tmp_path)
    apply_audit(audit, tmp_path / "out")
    apply_audit(audit, tmp_path / "out")  # its own earlier result is replaced
    with pytest.raises(AuditError, match="contains nothing that"):
        revert_data(audit, tmp_path / "back")


@pytest.mark.parametrize("damage", ["originals", "unchanged", "provenance", "name"])
def test_a_damaged_result_is_refused_by_name(tmp_path: Path, taxonomy: Taxonomy, damage: str) -> None:
    paths = [tmp_path / "data.jsonl", tmp_path / "more.jsonl"]
    write_records(ROWS[:2], paths[0])
    write_records(ROWS[2:], paths[1])
    out = tmp_path / "out"
    apply_audit(_audit(tmp_path / "audit", taxonomy, paths, [_answer("a", "crimson", "has_not")]), out)
    if damage == "originals":
        (out / "originals" / "data.jsonl.gz").write_bytes(gzip.compress(b"other"))
    elif damage == "unchanged":
        (out / "more.jsonl").write_bytes(b"other")
    elif damage == "provenance":
        (out / PROVENANCE).write_text("{}")
    else:
        (out / PROVENANCE).write_text(
            (out / PROVENANCE).read_text().replace('"name": "data.jsonl"', '"name": "../data.jsonl"')
        )
    with pytest.raises(AuditError, match=r"data\.jsonl|more\.jsonl|provenance"):
        revert_data(out, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_the_commands_apply_and_revert(
    tmp_path: Path, taxonomy: Taxonomy, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "one" / "data.jsonl", tmp_path / "two" / "data.jsonl"]
    for path, rows in zip(paths, (ROWS[:2], ROWS[2:]), strict=True):
        write_records(rows, path)
    audit = _audit(tmp_path / "audit", taxonomy, paths, [_answer("d", "walrus", "has")])
    with pytest.raises(SystemExit):
        main(["apply", str(audit), "--out", str(tmp_path / "out"), "--min-reviewers", "0"])
    assert main(["apply", str(audit), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "0 labels of 0 records changed" in said
    assert "--min-reviewers 1" in said  # one answer waits for a second, and the command says so
    assert main(["apply", str(audit), "--out", str(tmp_path / "out"), "--min-reviewers", "1"]) == 0
    assert "1 labels of 1 records changed" in capsys.readouterr().err
    assert main(["revert", str(tmp_path / "out"), "--out", str(tmp_path / "back")]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "back" / n) for n in ("data.jsonl", "2-data.jsonl")
    ]
    assert (tmp_path / "back" / "2-data.jsonl").read_bytes() == paths[1].read_bytes()


def test_comments_go_into_the_changes_and_the_corrected_records(tmp_path: Path, taxonomy: Taxonomy) -> None:
    path = tmp_path / "data.jsonl"
    write_records(ROWS, path)
    answers = [
        _answer("d", "walrus", "has", comment="tusks on page 2"),
        _answer("d", "walrus", "comment", reviewer="bob", comment="agreed"),
        _answer("a", "crimson", "has_not"),
    ]
    audit = _audit(tmp_path / "audit", taxonomy, [path], answers)
    apply_audit(audit, tmp_path / "out", min_reviewers=1)
    lines = [json.loads(line) for line in (tmp_path / "out" / CHANGES).read_text().splitlines()]
    assert {line["record"]: line.get("comments") for line in lines} == {
        "d": ["tusks on page 2", "agreed"],
        "a": None,
    }
    rows = [json.loads(line) for line in (tmp_path / "out" / "data.jsonl").read_text().splitlines()]
    assert [row["audit"][0].get("comments") for row in rows if row["id"] == "d"] == [
        ["tusks on page 2", "agreed"]
    ]


TEXT = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=12)
CELLS = st.fixed_dictionaries(
    {
        "text": TEXT.map(lambda text: f"x{text}"),
        "labels": st.none() | st.sets(st.sampled_from(["crimson", "walrus"])),
    },
    optional={"note": TEXT, "name": TEXT},
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(CELLS, min_size=1, max_size=6),
    said=st.lists(
        st.tuples(
            st.integers(0, 5), st.sampled_from(["crimson", "walrus"]), st.sampled_from(["has", "has_not"])
        ),
        max_size=8,
    ),
    suffix=st.sampled_from(FORMATS),
)
def test_revert_after_apply_is_the_identity_on_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    taxonomy: Taxonomy,
    cells: list[dict[str, Any]],
    said: list[tuple[int, str, AnswerKind]],
    suffix: str,
) -> None:
    folder = tmp_path_factory.mktemp("case")
    path = folder / f"data{suffix}"
    rows = [
        row | {"id": f"r{n}", "labels": None if row["labels"] is None else sorted(row["labels"])}
        for n, row in enumerate(cells)
    ]
    write_records(rows, path)
    answers = [_answer(f"r{n % len(rows)}", policy, kind) for n, policy, kind in said]
    before = {record.id: record for record in read_records([path], taxonomy).records}
    wanted = {(answer.record, answer.policy): answer.answer == "has" for answer in answers}
    applied = apply_audit(_audit(folder / "audit", taxonomy, [path], answers), folder / "out")
    after = {record.id: record for record in read_records(applied.files, taxonomy, strict=True).records}
    assert list(after) == list(before)
    for name, record in after.items():
        old = before[name]
        held = {policy for policy in taxonomy.ids if wanted.get((name, policy), policy in old.labels)}
        unknown = {policy for policy in old.unknown if (name, policy) not in wanted}
        assert (set(record.labels), set(record.unknown)) == (held, unknown)
        assert (record.text, record.parts) == (old.text, old.parts)
    (back,) = revert_data(folder / "out", folder / "back")
    assert back.read_bytes() == path.read_bytes()


def test_the_command_waits_for_a_second_reviewer(
    taxonomy: Taxonomy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "records.jsonl"
    write_records(ROWS, path)
    audit = _audit(tmp_path / "audit", taxonomy, [path], [_answer("a", "crimson", "has_not")])
    assert main(["apply", str(audit), "--out", str(tmp_path / "out")]) == 0
    assert "1 more would change" in capsys.readouterr().err
    assert (tmp_path / "out/records.jsonl").read_bytes() == path.read_bytes()
    assert main(["apply", str(audit), "--out", str(tmp_path / "out"), "--min-reviewers", "1"]) == 0
    assert (tmp_path / "out/records.jsonl").read_bytes() != path.read_bytes()


@pytest.mark.parametrize("name", ["records.jsonl", CHANGES, "notes.txt"])
def test_edits_of_a_corrected_folder_are_never_written_over(
    taxonomy: Taxonomy, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "records.jsonl"
    write_records(ROWS, path)
    audit = _audit(tmp_path / "audit", taxonomy, [path], [_answer("a", "crimson", "has_not")])
    out = tmp_path / "out"
    apply_audit(audit, out)
    with open(out / name, "a", encoding="utf-8") as stream:
        stream.write("mine")
    with pytest.raises(AuditError, match=rf"{name}: has changed"):
        apply_audit(audit, out)
    assert (out / name).read_text(encoding="utf-8").endswith("mine")

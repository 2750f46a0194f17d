"""Tasks for other tools, and answers back from them."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.audit.exchange import answer_table
from merchantguard.audit.exchange.answers import add_answers
from merchantguard.audit.exchange.tasks import tasks
from merchantguard.audit.storage.items import Item
from merchantguard.audit.storage.journal import Journal
from merchantguard.audit.storage.store import Scan, ScanSummary, write_scan
from merchantguard.audit_cli import main
from merchantguard.data.records.readers import read_records, write_records
from merchantguard.data.records.rows import open_rows
from merchantguard.data.taxonomy import load_taxonomy

ROWS: list[dict[str, Any]] = [
    {
        "id": "=cmd|' /C calc'!A0",
        "text": "=2+3 crimson <script>alert(1)</script> \u202e",
        "labels": ["crimson"],
    },
    {"id": "b", "text": "'-walrus, goods", "labels": []},
    {"id": "c", "text": "walrus, goods", "labels": ["walrus"]},
]
FORMULA = ROWS[0]["id"]


def _item(record: str, policy: str, given: bool, **fields: Any) -> Item:
    return replace(
        Item(record, policy, given, "wrong_positive", p_label_error=0.9, model_probability=0.1), **fields
    )


ITEMS = [
    _item(FORMULA, "crimson", True, value=2.0),
    _item("b", "walrus", False, cause="contradicting_duplicates", other_record="c", value=3.0),
    _item("c", "crimson", False, cause="control", inclusion_probability=0.5),
    _item("c", "walrus", True, cause="gold", gold_answer=True),
]


@pytest.fixture
def audit(write_audit: Callable[..., Path]) -> Path:
    return write_audit(ROWS, ITEMS)


def _export(audit: Path, to: str, *more: str) -> Path:
    out = audit.parent / f"{to}{len(more)}"
    assert main(["export", str(audit), "--to", to, "--out", str(out), *more]) == 0
    return out


def _answers(audit: Path) -> list[tuple[str, str, str, str, str]]:
    journal = Journal(audit)
    found = journal.answers()
    journal.close()
    return [(a.reviewer, a.record, a.policy, a.answer, a.comment) for a in found]


def _label_studio(audit: Path, said: dict[str, str], *, at: str = "2026-11-20T10:00:00.5Z") -> Path:
    """What Label Studio's JSON export is, with these answers by record."""
    folder = audit.parent / "label-studio0"
    if not folder.exists():
        _export(audit, "label-studio")
    tasks = json.loads((folder / "tasks.json").read_text())
    path = audit.parent / "export.json"
    for number, task in enumerate(tasks, start=1):
        kind = said.get(task["data"]["record"])
        result = [{"from_name": "answer", "to_name": "text", "type": "choices", "value": {"choices": [kind]}}]
        result += [
            {"from_name": "comment", "to_name": "text", "type": "textarea", "value": {"text": ["=why"]}}
        ]
        annotation = {
            "id": 100 + number,
            "completed_by": {"id": 7, "email": "maria@example.com"},
            "result": result if kind != "skip" else [],
            "was_cancelled": kind == "skip",
            "created_at": "2026-11-20T09:00:00Z",
            "updated_at": at,
            "lead_time": 4.25,
        }
        task |= {"id": number, "annotations": [annotation] if kind else []}
    path.write_text(json.dumps(tasks))
    return path


def test_tasks_are_blind_and_inert(audit: Path) -> None:
    folder = _export(audit, "label-studio")
    tasks = json.loads((folder / "tasks.json").read_text())
    assert len(tasks) == 4
    for task in tasks:
        assert set(task) == {"data"}
        assert not {"given", "cause", "gold_answer", "model_probability"} & set(task["data"])
    by_record = {(task["data"]["record"], task["data"]["policy"]): task["data"] for task in tasks}
    assert by_record["b", "walrus"]["near_duplicate"] == "walrus, goods"
    assert by_record[FORMULA, "crimson"]["text"] == "=2+3 crimson <script>alert(1)</script> ⟨RLO⟩"
    config = ElementTree.fromstring((folder / "config.xml").read_text())
    shown = {
        element.attrib["value"].removeprefix("$") for element in config if element.tag in ("Text", "Header")
    }
    assert shown <= set(by_record["b", "walrus"])
    assert [choice.attrib["value"] for choice in config.iter("Choice")] == ["has", "has_not", "cannot_tell"]
    (predictions,) = {
        task["predictions"][0]["result"][0]["value"]["choices"][0]
        for task in json.loads((_export(audit, "label-studio", "--show-given") / "tasks.json").read_text())
        if task["data"]["record"] == "b"
    }
    assert predictions == "has_not"


def test_label_studio_answers_become_answers_once(audit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = _label_studio(audit, {FORMULA: "has_not", "b": "skip"})
    assert main(["import", str(audit), str(export)]) == 0
    assert "2 new answers, 0 already imported" in capsys.readouterr().out
    maria = "maria@example.com"
    assert sorted(_answers(audit)) == [
        (maria, FORMULA, "crimson", "has_not", "=why"),
        (maria, "b", "walrus", "skip", ""),
    ]
    journal = Journal(audit)
    answer = next(answer for answer in journal.answers() if answer.answer == "has_not")
    journal.close()
    assert (answer.at, answer.milliseconds) == ("2026-11-20T10:00:00.500+00:00", 4_250)
    assert answer.tool.startswith("label-studio, label-audit")
    assert answer.shown["blind"] is True
    assert main(["import", str(audit), str(export)]) == 0
    assert "0 new answers, 2 already imported" in capsys.readouterr().out
    # A later change of mind is news; the old export after it is not.
    old = export.read_bytes()
    _label_studio(audit, {FORMULA: "has", "b": "skip"}, at="2026-11-21T10:00:00Z")
    assert main(["import", str(audit), str(export)]) == 0
    export.write_bytes(old)
    assert main(["import", str(audit), str(export)]) == 0
    assert [answer[3] for answer in _answers(audit) if answer[1] == FORMULA] == ["has_not", "has"]


def test_the_flat_export_is_read_too(audit: Path) -> None:
    row = {"record": "b", "policy": "walrus", "answer": "has", "annotator": 7, "lead_time": 1.5, "id": 3}
    export = audit.parent / "min.json"
    export.write_text(json.dumps([row, row | {"answer": "has_not", "annotator": 8}]))
    assert main(["import", str(audit), str(export), "--name", "7=maria", "--stage", "second"]) == 0
    assert [(who, kind) for who, _, _, kind, _ in _answers(audit)] == [
        ("maria", "has"),
        ("label-studio-8", "has_not"),
    ]


def test_argilla_takes_the_folder_and_gives_responses_back(audit: Path) -> None:
    folder = _export(audit, "argilla")
    settings = json.loads((folder / "settings.json").read_text())
    names = {field["name"] for field in settings["fields"]}
    required = {field["name"] for field in settings["fields"] if field["required"]}
    assert not any(field["settings"]["use_markdown"] for field in settings["fields"])
    records = json.loads((folder / "records.json").read_text())
    for record in records:
        assert required <= set(record["fields"]) <= names
        assert record["suggestions"] == {}
    users = ("00000000-0000-0000-0000-000000000007", "00000000-0000-0000-0000-000000000008")
    for record in records:
        record["responses"] = {"answer": [{"value": "has", "user_id": user} for user in users]}
    records[0]["responses"]["comment"] = [{"value": "odd", "user_id": users[1]}]
    (folder / "records.json").write_text(json.dumps(records))
    command = ["import", str(audit), str(folder), "--name", f"{users[0]}=maria"]
    assert main(command) == 0
    assert main(command) == 0
    answers = _answers(audit)
    assert len(answers) == 8
    assert {answer[0] for answer in answers} == {"maria", f"argilla-{users[1]}"}
    assert [answer[4] for answer in answers if answer[4]] == ["odd"]


def test_a_table_is_defused_and_comes_back_as_it_was(audit: Path) -> None:
    path = _export(audit, "csv") / "tasks.csv"
    with open(path, newline="", encoding="utf-8") as stream:
        header, *rows = list(csv.reader(stream))
    for row in rows:
        for cell in row:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    place = {name.partition(" (")[0]: column for column, name in enumerate(header)}
    assert "given" not in place
    for row in rows:
        if "crimson" in row[place["text"]]:
            row[place["answer"]], row[place["comment"]] = "Has not", "'=SUM(A1)"
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    for _ in range(2):
        assert main(["import", str(audit), str(path), "--reviewer", "maria"]) == 0
    assert _answers(audit) == [("maria", FORMULA, "crimson", "has_not", "=SUM(A1)")]


PRINTABLE = st.characters(exclude_categories=("Cc", "Cs"))


@settings(max_examples=40, deadline=None)
@given(
    ids=st.lists(st.text(PRINTABLE, min_size=1, max_size=8), min_size=1, max_size=4, unique=True),
    comment=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12),
    lead=st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "'="]),
)
def test_a_table_brings_answers_back_to_their_records_whatever_stands_in_it(
    tmp_path_factory: pytest.TempPathFactory, taxonomy_file: Path, ids: list[str], comment: str, lead: str
) -> None:
    folder = tmp_path_factory.mktemp("case")
    records = [{"id": lead.strip() + name, "text": f"{lead}{name} x", "labels": []} for name in ids]
    data = folder / "data.jsonl"
    write_records(records, data)
    taxonomy = load_taxonomy(taxonomy_file)
    read = read_records([data], taxonomy, strict=True)
    items = [_item(record.id, "crimson", False) for record in read.records]
    write_scan(
        folder,
        taxonomy=taxonomy,
        records=read.records,
        duplicates=range(len(items)),
        items=items,
        summary=ScanSummary(),
    )
    scan, journal = Scan(folder), Journal(folder)
    answer_table.write(folder, tasks(scan, []), show_given=False)
    rows = [dict(row.fields or {}) for row in open_rows(folder / "tasks.csv")]
    said = f"{lead}{comment}"
    write_records([row | {"answer": "has", "comment": said} for row in rows], folder / "back.csv")
    bad: list[Any] = []
    found = answer_table.read(folder / "back.csv", {})
    counts = add_answers(journal, scan, found, tool="csv", reviewer="ann", on_bad=bad.append)
    assert (counts.new, bad) == (len(ids), [])
    answers = journal.answers()
    journal.close()
    assert {answer.record for answer in answers} == {record.id for record in read.records}
    assert {answer.comment for answer in answers} == {said}


def test_bad_rows_are_named_and_set_aside_and_the_rest_goes_on(
    audit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = audit.parent / "answers.csv"
    table.write_text(
        "id,text,record,policy,answer,reviewer,at\n"
        "1,x,b,walrus,maybe,maria,\n"
        "2,x,nobody,walrus,has,maria,\n"
        "3,x,b,walrus,has,,\n"
        "4,x,b\n"
        "5,x,b,walrus,has,maria,yesterday\n"
        "6,x,,walrus,has,maria,\n"
        "7,x,c,crimson,,maria,\n"
        "8,x,b,walrus,has,maria,2026-11-20\n"
    )
    export = audit.parent / "broken.json"
    export.write_text(
        json.dumps([{"data": {}, "annotations": [{"result": []}]}, 5, {"data": 1, "annotations": 2}])
    )
    assert main(["import", str(audit), str(table), str(export)]) == 0
    printed = capsys.readouterr()
    assert f"{table}: 1 new answers, 0 already imported, 1 tasks without an answer, 6 bad rows" in printed.out
    for text in (
        "row 2: answer: 'maybe' must be",
        "row 3: 'nobody', 'walrus': is not an item",
        "row 4: reviewer: is missing",
    ):
        assert f"{table}, {text}" in printed.err
    assert f"{export}, row 3" in printed.err
    rejects = [json.loads(line) for line in (audit / "import-rejects.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rejects] == [2, 3, 4, 5, 6, 7, 1, 2, 3]
    assert _answers(audit) == [("maria", "b", "walrus", "has", "")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "AUDIT", "--to", "csv", "--out", "AUDIT"], "already exists"),
        (["import", "AUDIT", "missing.json"], "does not exist"),
        (["import", "AUDIT", "missing.csv", "--name", "x"], "give ID=NAME"),
        (["import", "AUDIT", "other.json"], "give the format with --from"),
        (["import", "AUDIT", "object.json"], "is not a list of tasks"),
        (["import", "AUDIT", "text.json"], "is not JSON"),
    ],
)
def test_what_cannot_be_done_is_said(
    audit: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(audit.parent)
    Path("other.json").write_text('[{"a": 1}]')
    Path("object.json").write_text("{}")
    Path("text.json").write_text("no")
    assert main([str(audit) if word == "AUDIT" else word for word in arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_limit_leaves_room_for_controls_and_gold_items(write_audit: Callable[..., Path]) -> None:
    rows = [{"id": f"r{n}", "text": f"crimson {n}", "labels": []} for n in range(100)]
    suspects = [_item(f"r{n}", "crimson", False, value=float(-n)) for n in range(100)]
    controls = [
        _item(f"r{n}", "walrus", False, cause="control", inclusion_probability=0.5) for n in range(50)
    ]
    gold_items = [_item(f"r{n}", "walrus", False, cause="gold", gold_answer=False) for n in range(50, 100)]
    audit = write_audit(rows, [*suspects, *controls, *gold_items])
    tasks = json.loads((_export(audit, "label-studio", "--limit", "40") / "tasks.json").read_text())
    cells = [(task["data"]["policy"], int(task["data"]["record"][1:])) for task in tasks]
    assert sorted(number for policy, number in cells if policy == "crimson") == list(range(34))
    assert sum(policy == "walrus" and number < 50 for policy, number in cells) == 4
    assert cells != sorted(cells)


def test_two_different_choices_are_no_answer(audit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = _label_studio(audit, {FORMULA: "has", "b": "skip"})
    tasks = json.loads(export.read_text())
    for task in tasks:
        for annotation in task["annotations"]:
            for result in annotation["result"]:
                if result["from_name"] == "answer":
                    result["value"]["choices"] = ["has", "has_not"]
    export.write_text(json.dumps(tasks))
    main(["import", str(audit), str(export)])
    assert [(record, answer) for _, record, _, answer, _ in _answers(audit)] == [("b", "skip")]
    shown = capsys.readouterr()
    assert "1 bad row" in shown.out + shown.err


def test_any_apostrophe_of_cannot_tell_is_read(audit: Path) -> None:
    for mark in "'\u2019\u2018\u02bc\u00b4`\u2032\uff07":
        export = _label_studio(
            audit, {FORMULA: f"Can{mark}t tell"}, at=f"2026-11-2{1 + ord(mark) % 7}T10:00:00Z"
        )
        main(["import", str(audit), str(export)])
        assert {(record, answer) for _, record, _, answer, _ in _answers(audit)} == {(FORMULA, "cannot_tell")}

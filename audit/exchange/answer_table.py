"""A plain CSV table of tasks, with empty columns for the answers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data.records.rows import open_rows
from ...data.records.writers import write_records
from .answers import BadRow, Returned
from .tasks import ANSWER_TITLES, Task, task_key

TOOL = "csv"
TASKS = "tasks.csv"
_ANSWER = f"answer ({', '.join(ANSWER_TITLES)})"


def write(folder: Path, tasks: Sequence[Task], *, show_given: bool) -> None:
    """Write tasks.csv into a folder; cells that a spreadsheet would run as formulas are made harmless.

    :param show_given: add a column with the label in the data.
    """
    write_records([_row(task, show_given=show_given) for task in tasks], folder / TASKS)


def _row(task: Task, *, show_given: bool) -> dict[str, Any]:
    row = {
        "id": task_key(task),
        "record": task.record,
        "policy": task.policy,
        "title": task.title,
        "covers": task.covers,
        "not": task.excludes,
        "text": task.text,
        "near_duplicate": task.near_duplicate,
    }
    if show_given:
        row["given"] = "has" if task.given else "has_not"
    return row | {_ANSWER: "", "comment": "", "reviewer": ""}


def read(path: Path, names: Mapping[str, str]) -> Iterator[Returned | BadRow]:
    """The rows of a table with the columns record, policy, answer and, optionally, comment, reviewer and at.

    :param names: reviewers' names by the values in the column.
    :raises RecordError: if the file is not such a table.
    """
    for row in open_rows(path):
        if row.fields is None:
            yield BadRow(row.number, row.reason, row.raw_text(2_000))
            continue
        cells = {str(key).partition(" (")[0]: str(value) for key, value in row.fields.items()}
        if missing := [name for name in ("record", "policy") if name not in cells]:
            yield BadRow(row.number, f"the cell {missing[0]} is empty", row.raw_text(2_000))
            continue
        who = cells.get("reviewer", "").strip()
        yield Returned(
            row=row.number,
            record=cells["record"],
            policy=cells["policy"],
            answer=cells.get("answer", "").strip(),
            reviewer=names.get(who) or who,
            comment=cells.get("comment", ""),
            at=cells.get("at", "").strip(),
            blind="given" not in cells,
            raw=row.raw_text(2_000),
        )

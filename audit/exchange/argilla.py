"""Argilla 2: writes a folder for its `Dataset.from_disk` and reads what `Dataset.to_disk` writes.

Layout and fields as in argilla 2.8: dataset.json, settings.json and records.json.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import RecordError
from ...core.files import write_json
from .answers import BadRow, Returned, raw_text, read_objects
from .tasks import ANSWER_TITLES, Task, task_key

TOOL = "argilla"
RECORDS = "records.json"
_FIELDS = (
    ("title", "Policy", True),
    ("covers", "What it covers", True),
    ("excludes", "What it does not cover", False),
    ("text", "Text", True),
    ("near_duplicate", "Near-duplicate", False),
)


def write(folder: Path, tasks: Sequence[Task], *, show_given: bool) -> None:
    """Write the dataset's folder.

    :param show_given: suggest the label in the data for each record.
    """
    write_json(folder / "dataset.json", {"name": "label-audit", "guidelines": None})
    write_json(folder / "settings.json", _settings())
    write_json(folder / RECORDS, [_record(task, show_given=show_given) for task in tasks])


def _settings() -> dict[str, Any]:
    options = [{"value": value, "text": title} for value, title in ANSWER_TITLES.items()]
    label = {"type": "label_selection", "options": options, "visible_options": len(options)}
    return {
        "guidelines": "Decide for each text whether it violates the policy named above it.",
        "fields": [
            # Markdown stays off: a merchant's text is shown, never rendered.
            _named(name, title, required, {"type": "text", "use_markdown": False})
            for name, title, required in _FIELDS
        ],
        "questions": [
            _named("answer", "Does the text violate the policy?", True, label),
            _named("comment", "Comment", False, {"type": "text", "use_markdown": False}),
        ],
        "metadata": [
            {
                "name": name,
                "title": name,
                "visible_for_annotators": False,
                "settings": {"type": "terms", "values": None, "visible_for_annotators": False},
            }
            for name in ("record", "policy")
        ],
        "vectors": [],
        "allow_extra_metadata": False,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }


def _named(name: str, title: str, required: bool, settings: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "title": title, "description": None, "required": required, "settings": settings}


def _record(task: Task, *, show_given: bool) -> dict[str, Any]:
    fields = {
        "title": task.title,
        "covers": task.covers,
        "excludes": task.excludes,
        "text": task.text,
        "near_duplicate": task.near_duplicate,
    }
    given = {"value": "has" if task.given else "has_not", "score": None, "agent": "label in the data"}
    return {
        "id": task_key(task),
        "fields": {name: value for name, value in fields.items() if value},
        "metadata": {"record": task.record, "policy": task.policy},
        "suggestions": {"answer": given} if show_given else {},
        "responses": {},
        "vectors": {},
    }


def read(path: Path, names: Mapping[str, str]) -> Iterator[Returned | BadRow]:
    """The responses in a folder that `to_disk` wrote, or in its records.json.

    The file does not distinguish drafts and discarded responses from submitted ones: all of them count.

    :param names: reviewers' names by their user ids in Argilla.
    :raises RecordError: if there is no such file.
    """
    file = path / RECORDS if path.is_dir() else path
    if not file.is_file():
        raise RecordError(f"{file}: does not exist; give a folder that Argilla's `to_disk` wrote")
    return read_objects(file, lambda number, entry: _of_record(number, entry, names))


def _of_record(number: int, record: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Returned]:
    responses = record.get("responses") or {}
    comments = {str(said["user_id"]): str(said["value"] or "") for said in responses.get("comment") or []}
    for said in responses.get("answer") or []:
        user = str(said["user_id"])
        yield Returned(
            row=number,
            record=str(record["metadata"]["record"]),
            policy=str(record["metadata"]["policy"]),
            answer=str(said["value"] or ""),
            reviewer=names.get(user) or f"{TOOL}-{user}",
            comment=comments.get(user, ""),
            blind=not record.get("suggestions"),
            raw=raw_text(record),
        )

"""Label Studio: writes tasks with their labeling configuration and reads its export (JSON or JSON-MIN).

Formats: https://labelstud.io/guide/predictions and https://labelstud.io/guide/task_format
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from ...core.files import write_json, write_text
from .answers import BadRow, Returned, raw_text, read_objects
from .tasks import ANSWER_TITLES, Task, task_key

TOOL = "label-studio"
TASKS = "tasks.json"
CONFIG = "config.xml"
_HOTKEYS = {"has": "1", "has_not": "2", "cannot_tell": "3"}


def write(folder: Path, tasks: Sequence[Task], *, show_given: bool) -> None:
    """Write tasks.json and config.xml into a folder.

    :param show_given: pre-annotate each task with the label in the data.
    """
    write_text(folder / CONFIG, _config())
    write_json(folder / TASKS, [_task(task, show_given=show_given) for task in tasks])


def _config() -> str:
    choices = "\n".join(
        f'    <Choice value="{value}" alias="{value}" html={quoteattr(title)} hotkey="{_HOTKEYS[value]}"/>'
        for value, title in ANSWER_TITLES.items()
    )
    # <Text> shows markup as text; <HyperText> would run it.
    return f"""<View>
  <Header value="$title"/>
  <Text name="covers" value="$covers"/>
  <Text name="excludes" value="$excludes"/>
  <Choices name="answer" toName="text" choice="single" showInline="true" required="true">
{choices}
  </Choices>
  <Text name="text" value="$text"/>
  <Text name="near_duplicate" value="$near_duplicate"/>
  <TextArea name="comment" toName="text" rows="2" maxSubmissions="1" placeholder="Comment"/>
</View>
"""


def _task(task: Task, *, show_given: bool) -> dict[str, Any]:
    data = {
        "task": task_key(task),
        "record": task.record,
        "policy": task.policy,
        "title": task.title,
        "covers": task.covers,
        "excludes": f"Excludes: {task.excludes}" if task.excludes else "",
        "text": task.text,
        "near_duplicate": task.near_duplicate,
    }
    if not show_given:
        return {"data": data}
    result = {
        "from_name": "answer",
        "to_name": "text",
        "type": "choices",
        "value": {"choices": ["has" if task.given else "has_not"]},
    }
    return {"data": data, "predictions": [{"model_version": "label in the data", "result": [result]}]}


def read(path: Path, names: Mapping[str, str]) -> Iterator[Returned | BadRow]:
    """The answers of an export.

    :param names: reviewers' names by their ids or addresses in Label Studio.
    :raises RecordError: if the file is not an export.
    """

    def rows(number: int, entry: Any) -> Iterator[Returned | BadRow]:
        if "data" in entry:
            return _of_task(number, entry, names)
        return _of_flat(number, entry, names)

    return read_objects(path, rows)


def _of_task(number: int, task: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Returned]:
    for annotation in task.get("annotations") or []:
        found = {result["from_name"]: result["value"] for result in annotation.get("result") or []}
        chosen = _choices(annotation)
        skipped = bool(annotation.get("was_cancelled"))
        yield Returned(
            row=number,
            record=str(task["data"]["record"]),
            policy=str(task["data"]["policy"]),
            answer="skip" if skipped else " and ".join(chosen),
            reviewer=_name(annotation.get("completed_by"), names),
            comment="\n".join(found.get("comment", {}).get("text") or []),
            at=str(annotation.get("updated_at") or annotation.get("created_at") or ""),
            milliseconds=_milliseconds(annotation.get("lead_time")),
            blind=not task.get("predictions"),
            raw=raw_text(task),
        )


def _choices(annotation: Mapping[str, Any]) -> list[str]:
    """Every different choice of the answer: two are no answer, and which came first says nothing."""
    chosen = [
        str(choice)
        for result in annotation.get("result") or []
        if result["from_name"] == "answer"
        for choice in result["value"].get("choices") or []
    ]
    return list(dict.fromkeys(chosen))


def _of_flat(number: int, row: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Returned]:
    """A row of JSON-MIN: the task's data and the answer in one object."""
    comment = row.get("comment") or ""
    yield Returned(
        row=number,
        record=str(row["record"]),
        policy=str(row["policy"]),
        answer=str(row.get("answer") or ""),
        reviewer=_name(row.get("annotator"), names),
        comment="\n".join(comment) if isinstance(comment, list) else str(comment),
        at=str(row.get("updated_at") or row.get("created_at") or ""),
        milliseconds=_milliseconds(row.get("lead_time")),
        raw=raw_text(row),
    )


def _milliseconds(seconds: Any) -> int:
    return round(1000 * float(seconds or 0))


def _name(who: Any, names: Mapping[str, str]) -> str:
    """A reviewer's name: from `names`, else the address, else "label-studio-ID"."""
    if isinstance(who, Mapping):
        address = str(who.get("email") or "")
        return names.get(address) or names.get(str(who.get("id"))) or address or _name(who.get("id"), names)
    if who is None or who == "":
        return ""
    return names.get(str(who)) or f"{TOOL}-{who}"

"""Reading the texts of behaviour tests: `offers.jsonl`, `ordinary.jsonl`, `frames.jsonl`, `direction.jsonl`."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...core.display import safe_repr
from ...core.errors import RecordError

FILES = ("offers.jsonl", "ordinary.jsonl", "frames.jsonl", "direction.jsonl")


@dataclass(frozen=True, slots=True)
class Offer:
    """A plain line that offers what a policy forbids."""

    id: str
    text: str
    policy: str


@dataclass(frozen=True, slots=True)
class OrdinaryLine:
    """A line that violates nothing; `kind` is the sort of text it is."""

    id: str
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Frame:
    """Harmless page text around a line; `kind` is the sort of text it is."""

    id: str
    kind: str
    before: str
    after: str

    def around(self, line: str) -> str:
        """The line inside the frame."""
        return f"{self.before}{line}{self.after}"


@dataclass(frozen=True, slots=True)
class DirectionPair:
    """Two texts of which one violates `policy`: one fact is different."""

    id: str
    policy: str
    violating: str
    compliant: str


@dataclass(frozen=True, slots=True)
class Suite:
    """The texts of behaviour tests. What is empty is not tested."""

    offers: tuple[Offer, ...] = ()
    ordinary: tuple[OrdinaryLine, ...] = ()
    frames: tuple[Frame, ...] = ()
    direction: tuple[DirectionPair, ...] = field(default=())

    def under(self, policies: Collection[str]) -> tuple["Suite", tuple[str, ...]]:
        """The part of the suite that these policies can be tested on, and the suite's other policies, sorted."""
        lines: list[Offer | DirectionPair] = [*self.offers, *self.direction]
        kept = replace(
            self,
            offers=tuple(offer for offer in self.offers if offer.policy in policies),
            direction=tuple(pair for pair in self.direction if pair.policy in policies),
        )
        return kept, tuple(sorted({line.policy for line in lines} - set(policies)))


def load_suite(folder: Path | None = None) -> Suite:
    """The suite in a folder, any part of the four files; without a folder the shipped one.

    :raises RecordError: naming file and row of a fault, or the folder if it has none of the files.
    """
    offers, ordinary, frames, direction = (list(_rows(folder, name)) for name in FILES)
    if not any((offers, ordinary, frames, direction)):
        raise RecordError(f"{folder}: has no text to test with in {', '.join(FILES)}")
    return Suite(
        tuple(Offer(row.id, row.text("text"), row.policy()) for row in offers),
        tuple(OrdinaryLine(row.id, row.text("text"), row.text("kind", "ordinary")) for row in ordinary),
        tuple(
            Frame(row.id, row.text("kind", "frame"), row.string("before"), row.string("after"))
            for row in frames
        ),
        tuple(
            DirectionPair(row.id, row.text("policy"), row.text("violating"), row.text("compliant"))
            for row in direction
        ),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a file, and its place."""

    place: str
    content: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The row's `id`; its place where it has none."""
        return self.text("id", self.place)

    def string(self, key: str, default: str = "") -> str:
        """The string under a key; `default` where there is none."""
        value = self.content.get(key, default)
        if not isinstance(value, str):
            raise RecordError(f"{self.place}: {key} is {safe_repr(value)}; it must be a text")
        return value

    def text(self, key: str, default: str = "") -> str:
        """The string under a key, which must hold more than white space."""
        value = self.string(key, default)
        if not value.strip():
            raise RecordError(f"{self.place}: {key} is missing or empty")
        return value

    def policy(self) -> str:
        """The one policy in `labels`."""
        labels = self.content.get("labels")
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
            raise RecordError(f"{self.place}: labels is {safe_repr(labels)}; it must name one policy")
        return labels[0]


def _rows(folder: Path | None, name: str) -> Iterator[_Row]:
    """The rows of a file of the suite, none where the folder lacks it."""
    path = files(__package__).joinpath(name) if folder is None else Path(folder) / name
    if not path.is_file():
        return
    place = name if folder is None else str(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{place}: cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{place}:{number}: is not JSON ({error})") from error
        if not isinstance(content, dict):
            raise RecordError(f"{place}:{number}: is {safe_repr(content)}; it must be a JSON object")
        yield _Row(f"{place}:{number}", content)

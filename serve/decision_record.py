"""Decision records: what the decision log keeps of each decision, the same from the service, the library and batch jobs.

A record says, a year later, what was decided about which text by which bundle and why, without the merchant's text. What
happens to a decision afterwards (a review, a second opinion, an appeal) is an event that names its `decision_id`.
"""

import hashlib
import hmac
import math
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal, Self, get_args

from ..core.errors import RecordError
from .assessment import Assessment, Finding
from .bundle import Bundle

SCHEMA_VERSION = 1

EventKind = Literal["review", "adjudication", "appeal", "action"]
Thresholds = Mapping[str, tuple[float, float | None]]
"""Per policy its review and its block threshold; None where it never blocks."""

_DECISIONS = ("clear", "review", "block")


@dataclass(frozen=True, slots=True)
class LoggedFinding:
    """A finding without its text: `spans` are character offsets into the caller's text."""

    policy: str
    probability: float
    decision: str
    certificate: str | None = None
    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, finding: Finding) -> Self:
        """What is logged of a finding."""
        spans = tuple((span.start, span.end) for span in finding.spans)
        return cls(finding.policy, finding.probability, finding.decision, finding.certificate, spans)


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision.

    :param decision_id: UUID version 7, so that identifiers sort by time.
    :param time: when it was decided, ISO 8601 in UTC.
    :param text_hmac: keyed hash of the text, by `hash_text`; equal texts have equal ones under the same key.
    :param text_length: characters.
    :param probabilities: of every policy; empty where the first stage of a cascade cleared the text.
    :param thresholds: those in force.
    :param selection: every probability with which the decision was chosen for something, by its name ("audit", "queue",
        "adjudicator"): estimates from what was chosen weigh by it.
    :param selected: the names among them for which it was chosen.
    :param text: only where the log keeps texts.
    """

    decision_id: str
    time: str
    bundle: str
    bundle_version: str
    bundle_digest: str
    variant: str
    cleaning_version: str
    text_hmac: str
    text_length: int
    windows: int
    truncated: bool
    probabilities: Mapping[str, float]
    any_violation: float | None
    thresholds: Thresholds
    any_review: float
    decision: str
    findings: tuple[LoggedFinding, ...] = ()
    warnings: tuple[str, ...] = ()
    request_id: str | None = None
    merchant_id: str | None = None
    record_id: str | None = None
    action: str | None = None
    rule: str | None = None
    rule_version: str | None = None
    selection: Mapping[str, float] = field(default_factory=dict)
    selected: tuple[str, ...] = ()
    queue_seconds: float | None = None
    model_seconds: float | None = None
    text: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON, with `schema` and `type`."""
        document: dict[str, Any] = {"schema": SCHEMA_VERSION, "type": "decision"}
        document |= {each.name: getattr(self, each.name) for each in fields(self)}
        document["thresholds"] = {
            policy: {"review": review, "block": block} for policy, (review, block) in self.thresholds.items()
        }
        document["findings"] = [
            {
                "policy": each.policy,
                "probability": each.probability,
                "decision": each.decision,
                "certificate": each.certificate,
                "spans": [list(span) for span in each.spans],
            }
            for each in self.findings
        ]
        for name in ("probabilities", "selection"):
            document[name] = dict(document[name])
        for name in ("warnings", "selected"):
            document[name] = list(document[name])
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], place: str = "record") -> Self:
        """Read what `to_dict` wrote.

        :param place: where the document stands, for the error.
        :raises RecordError: naming the field that is missing or has a wrong value.
        """
        read = _Fields(document, place)
        read.schema("decision")
        thresholds = {
            policy: (read.inner(f"thresholds.{policy}", pair).number("review"), _block(read, policy, pair))
            for policy, pair in read.mapping("thresholds").items()
        }
        values: dict[str, Any] = {name: read.text(name) for name in _TEXTS}
        values |= {name: read.text_or_none(name) for name in _OPTIONAL_TEXTS}
        values |= {name: read.number_or_none(name) for name in _OPTIONAL_NUMBERS}
        values |= {name: read.numbers(name) for name in ("probabilities", "selection")}
        values |= {name: read.texts(name) for name in ("warnings", "selected")}
        return cls(
            **values,
            text_length=read.integer("text_length"),
            windows=read.integer("windows"),
            truncated=read.boolean("truncated"),
            any_review=read.number("any_review"),
            decision=read.one_of("decision", _DECISIONS),
            thresholds=thresholds,
            findings=tuple(_finding(read, entry) for entry in read.sequence("findings")),
        )


_TEXTS = (
    "decision_id", "time", "bundle", "bundle_version", "bundle_digest", "variant", "cleaning_version", "text_hmac",
)  # fmt: skip
_OPTIONAL_NUMBERS = ("any_violation", "queue_seconds", "model_seconds")
_OPTIONAL_TEXTS = ("request_id", "merchant_id", "record_id", "action", "rule", "rule_version", "text")


def _block(read: "_Fields", policy: str, pair: Any) -> float | None:
    return read.inner(f"thresholds.{policy}", pair).number_or_none("block")


def _finding(read: "_Fields", entry: Any) -> LoggedFinding:
    own = read.inner("findings", entry)
    spans = own.sequence("spans")
    if not all(isinstance(span, list) and len(span) == 2 and all(map(_is_count, span)) for span in spans):
        own.fail("spans", "pairs of offsets")
    return LoggedFinding(
        own.text("policy"),
        own.number("probability"),
        own.one_of("decision", _DECISIONS),
        own.text_or_none("certificate"),
        tuple((start, end) for start, end in spans),
    )


@dataclass(frozen=True, slots=True)
class DecisionEvent:
    """What happened to a decision later.

    :param source: where it comes from, such as "label-audit", "llm:build" or "appeal".
    :param actor: who said it: a reviewer, a model build.
    :param blind: whether the actor did not see the decision; None where that is unknown.
    :param labels: per policy whether it is violated; None where the actor cannot tell.
    :param details: further facts, JSON values only.
    """

    event_id: str
    decision_id: str
    time: str
    kind: EventKind
    source: str
    actor: str
    blind: bool | None = None
    labels: Mapping[str, bool | None] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON, with `schema` and `type`."""
        document: dict[str, Any] = {"schema": SCHEMA_VERSION, "type": "event"}
        document |= {each.name: getattr(self, each.name) for each in fields(self)}
        return document | {"labels": dict(self.labels), "details": dict(self.details)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], place: str = "event") -> Self:
        """Read what `to_dict` wrote.

        :raises RecordError: naming the field that is missing or has a wrong value.
        """
        read = _Fields(document, place)
        read.schema("event")
        labels = read.mapping("labels")
        if not all(label is None or isinstance(label, bool) for label in labels.values()):
            read.fail("labels", "true, false or null for each policy")
        blind = document.get("blind")
        if blind is not None and not isinstance(blind, bool):
            read.fail("blind", "true, false or null")
        return cls(
            **{name: read.text(name) for name in ("event_id", "decision_id", "time", "source", "actor")},
            kind=read.one_of("kind", get_args(EventKind)),  # type: ignore[arg-type]
            blind=blind,
            labels=labels,
            details=read.mapping("details"),
        )


def read_entry(document: Any, place: str) -> DecisionRecord | DecisionEvent:
    """The record or event in a line of a log.

    :raises RecordError: if it is neither, with the field and the place.
    """
    if not isinstance(document, dict):
        raise RecordError(f"{place}: a decision or an event is a JSON object, not {type(document).__name__}")
    if document.get("type") == "event":
        return DecisionEvent.from_dict(document, place)
    return DecisionRecord.from_dict(document, place)


@dataclass(frozen=True, slots=True)
class Recorder:
    """Makes decision records of one bundle's assessments.

    :param key: secret of the texts' hashes.
    :param variant: the variant that scores.
    :param keep_text: keep the merchants' texts in the log.
    """

    bundle: Bundle
    key: bytes
    variant: str = "plain"
    keep_text: bool = False

    def record(self, assessment: Assessment, text: str, **given: Any) -> DecisionRecord:
        """The record of an assessment of `text`.

        :param given: further fields of `DecisionRecord`, such as `merchant_id` or `selection`.
        """
        probabilities = {
            policy.id: float(probability)
            for policy, probability in zip(self.bundle.policies, assessment.probabilities, strict=True)
            if not math.isnan(probability)
        }
        some = float(assessment.any_violation)
        return DecisionRecord(
            decision_id=uuid7(),
            time=now(),
            bundle=self.bundle.name,
            bundle_version=self.bundle.version,
            bundle_digest=self.bundle.digest,
            variant=self.variant,
            cleaning_version=str(self.bundle.document.get("cleaning_version", "")),
            text_hmac=hash_text(text, self.key),
            text_length=len(text),
            windows=assessment.windows,
            truncated=assessment.truncated,
            probabilities=probabilities,
            any_violation=None if math.isnan(some) else some,
            thresholds={policy.id: (policy.review, policy.block) for policy in self.bundle.policies},
            any_review=float(self.bundle.any_review),
            decision=assessment.decision,
            findings=tuple(map(LoggedFinding.of, assessment.findings)),
            warnings=assessment.warnings,
            text=text if self.keep_text else None,
            **given,
        )


def hash_text(text: str, key: bytes) -> str:
    """HMAC-SHA256 of a text, hexadecimal: without the key nobody can try out which text it was."""
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def uuid7() -> str:
    """A UUID version 7 (RFC 9562): milliseconds since 1970, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    bits = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | bits
    value = value & ~(0xF << 76) | 7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


def now() -> str:
    """The time in UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True, slots=True)
class _Fields:
    """Checked access to the fields of a JSON object."""

    document: Mapping[str, Any]
    place: str

    def fail(self, name: str, wanted: str) -> None:
        """:raises RecordError: always, naming the field."""
        shown = repr(self.document.get(name))[:80] if name in self.document else "missing"
        raise RecordError(f"{self.place}: {name} is {shown}; it must be {wanted}")

    def schema(self, kind: str) -> None:
        """Refuse another kind, or a schema that is newer than this program."""
        if self.document.get("type") != kind:
            self.fail("type", repr(kind))
        if self.document.get("schema") != SCHEMA_VERSION:
            self.fail("schema", str(SCHEMA_VERSION))

    def inner(self, name: str, value: Any) -> "_Fields":
        """The fields of an object within."""
        if not isinstance(value, dict):
            self.fail(name, "an object")
        return _Fields(value, f"{self.place}: {name}")

    def text(self, name: str) -> str:
        """A string."""
        value = self.document.get(name)
        if not isinstance(value, str):
            self.fail(name, "a string")
        return str(value)

    def text_or_none(self, name: str) -> str | None:
        """A string or null."""
        return None if self.document.get(name) is None else self.text(name)

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        """One of some strings."""
        if self.document.get(name) not in known:
            self.fail(name, "one of " + ", ".join(known))
        return self.text(name)

    def integer(self, name: str) -> int:
        """A whole number, not negative."""
        value = self.document.get(name)
        if not _is_count(value):
            self.fail(name, "a whole number, 0 or more")
        return int(self.document[name])

    def number(self, name: str) -> float:
        """A finite number."""
        value = self.document.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail(name, "a finite number")
        return float(self.document[name])

    def number_or_none(self, name: str) -> float | None:
        """A finite number or null."""
        return None if self.document.get(name) is None else self.number(name)

    def boolean(self, name: str) -> bool:
        """True or false."""
        if not isinstance(self.document.get(name), bool):
            self.fail(name, "true or false")
        return bool(self.document[name])

    def mapping(self, name: str) -> dict[str, Any]:
        """An object."""
        if not isinstance(self.document.get(name), dict):
            self.fail(name, "an object")
        return dict(self.document[name])

    def numbers(self, name: str) -> dict[str, float]:
        """An object of finite numbers."""
        return {key: self.inner(name, self.document.get(name)).number(key) for key in self.mapping(name)}

    def sequence(self, name: str) -> list[Any]:
        """A list."""
        if not isinstance(self.document.get(name), list):
            self.fail(name, "a list")
        return list(self.document[name])

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self.sequence(name)
        if not all(isinstance(value, str) for value in values):
            self.fail(name, "a list of strings")
        return tuple(values)

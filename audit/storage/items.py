"""What an audit is made of: cells to look at with their reasons, and what reviewers answered."""

from dataclasses import dataclass
from typing import Literal

Cause = Literal[
    "wrong_positive",
    "missing_positive",
    "confused_pair",
    "contradicting_duplicates",
    "annotator_disagreement",
    "annotator_drift",
    "control",
    "planted",
]
"""The queue of an item. Of the suspects each names what may be wrong; a control is drawn at random, so that the errors left
can be estimated; of a planted item the answer is known, so that the reviewer's own accuracy can."""

SUSPECTS: tuple[Cause, ...] = (
    "wrong_positive",
    "missing_positive",
    "confused_pair",
    "contradicting_duplicates",
    "annotator_disagreement",
    "annotator_drift",
)
CAUSES: tuple[Cause, ...] = (*SUSPECTS, "control", "planted")

AnswerKind = Literal["has", "has_not", "cannot_tell", "skip", "comment", "undo"]
ANSWERS: tuple[AnswerKind, ...] = ("has", "has_not", "cannot_tell", "skip", "comment", "undo")

Stage = Literal["first", "second", "adjudication"]
STAGES: tuple[Stage, ...] = ("first", "second", "adjudication")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a cell is doubted: the ranker's name, a sentence for the reviewer and the figure behind it."""

    name: str
    text: str
    value: float


@dataclass(frozen=True, slots=True)
class Item:
    """One cell (record x policy) to look at.

    `given`: the label in the data. `suspicion`: probability in [0, 1] that it is wrong. `opinion`: the model's
    out-of-fold probability of the policy. `value`: expected worth of a look, by which a queue is ordered: suspicion, the policy's severity and
    `settles`, the near-duplicates (itself included) that one answer settles. `share`: probability with which a control was drawn, 1 for others.
    `known`: the true answer of a planted item.
    """

    record: str
    policy: str
    given: bool
    cause: Cause
    suspicion: float
    opinion: float
    value: float = 0.0
    settles: int = 1
    other_policy: str | None = None
    other_record: str | None = None
    reasons: tuple[Reason, ...] = ()
    share: float = 1.0
    known: bool | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of the journal. `number` counts from 1 in the order of writing; 0 before it is written.

    `at`: UTC, ISO 8601. `shown`: what the reviewer saw, JSON-able (the item's number and cause, whether it was blind, the text's
    SHA-256). `milliseconds`: from showing to answering. `undoes`: the number of the answer that an "undo" takes back.
    """

    reviewer: str
    record: str
    policy: str
    answer: AnswerKind
    stage: Stage
    at: str
    milliseconds: int
    tool: str
    shown: dict[str, object]
    comment: str = ""
    undoes: int | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the answers on one cell come to.

    `holds`: whether the policy holds; None while nobody could tell or reviewers disagree and nobody has adjudicated (`disputed`).
    `answers`: the numbers of the answers that it rests on.
    """

    record: str
    policy: str
    holds: bool | None
    disputed: bool
    reviewers: tuple[str, ...]
    answers: tuple[int, ...]
    at: str

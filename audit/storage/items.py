"""The contents of an audit: cells to look at with the reasons for it, and what reviewers answered."""

from dataclasses import dataclass
from typing import Literal

Cell = tuple[str, str]
"""A record's id and a policy's."""

Cause = Literal[
    "wrong_positive",
    "missing_positive",
    "confused_pair",
    "contradicting_duplicates",
    "annotator_disagreement",
    "annotator_drift",
    "control",
    "gold",
]
"""The queue of an item. Suspects: each cause names what may be wrong. A control is drawn at random, to estimate the errors left.
The answer of a gold item is known, to measure the reviewer's own accuracy."""

SUSPECTS: tuple[Cause, ...] = (
    "wrong_positive",
    "missing_positive",
    "confused_pair",
    "contradicting_duplicates",
    "annotator_disagreement",
    "annotator_drift",
)
CAUSES: tuple[Cause, ...] = (*SUSPECTS, "control", "gold")
QUEUE_NAMES: dict[Cause, str] = {
    "wrong_positive": "Label may be wrong",
    "missing_positive": "Label may be missing",
    "confused_pair": "Another policy may be meant",
    "contradicting_duplicates": "Near-duplicates with different labels",
    "annotator_disagreement": "Annotators disagree",
    "annotator_drift": "Annotator's labels changed over time",
    "control": "Random check",
    "gold": "Known answer",
}
"""The name of each queue, the same on every screen, in the report and in what a scan prints."""

AnswerKind = Literal["has", "has_not", "cannot_tell", "skip", "comment", "undo"]
ANSWERS: tuple[AnswerKind, ...] = ("has", "has_not", "cannot_tell", "skip", "comment", "undo")

Stage = Literal["first", "second", "adjudication"]
STAGES: tuple[Stage, ...] = ("first", "second", "adjudication")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a label may be wrong: the source's name, a sentence for the reviewer and the figure behind it."""

    name: str
    text: str
    value: float


@dataclass(frozen=True, slots=True)
class Item:
    """One cell (record x policy) to look at.

    `given`: the label in the data. `p_label_error`: probability in [0, 1] that it is wrong. `model_probability`: the model's
    out-of-fold probability of the policy. `value`: expected worth of a look, by which a queue is ordered: the probability of a
    label error times the weight of the policy's severity times `duplicate_count`, the near-duplicates with this label (itself
    included). `inclusion_probability`: probability with which a control was drawn, 1 for others. `gold_answer`: the true answer
    of a gold item.
    """

    record: str
    policy: str
    given: bool
    cause: Cause
    p_label_error: float
    model_probability: float
    value: float = 0.0
    duplicate_count: int = 1
    other_policy: str | None = None
    other_record: str | None = None
    reasons: tuple[Reason, ...] = ()
    inclusion_probability: float = 1.0
    gold_answer: bool | None = None

    @property
    def cell(self) -> Cell:
        """The cell that is asked about."""
        return self.record, self.policy


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of the journal. `number` counts from 1 in the order of writing; 0 before it is written.

    `at`: UTC, ISO 8601. `shown`: what the reviewer saw, as JSON values (the item's number and cause, whether it was blind, the
    text's SHA-256, exact duplicates). `milliseconds`: from showing to answering. `undoes`: the number of the answer that an "undo"
    takes back.
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

    @property
    def cell(self) -> Cell:
        """The cell that is answered."""
        return self.record, self.policy

"""The words of the review screens, the same in the terminal and in the web page."""

import math
from collections.abc import Iterable, Sequence

from ..estimation.estimates import Estimates
from ..storage.items import AnswerKind, Stage, Verdict
from .card import Card, Opinion, Pane, Reveal
from .marking import Kind
from .progress import Progress

ANSWER_WORDS: dict[str, str] = {
    "has": "has it",
    "has_not": "has it not",
    "cannot_tell": "can't tell",
    "skip": "skipped",
    "comment": "comment",
}
KEYS: dict[str, AnswerKind] = {"h": "has", "n": "has_not", "t": "cannot_tell", "s": "skip"}
CAUSE_WORDS: dict[str, str] = {
    "wrong_positive": "label that may be wrong",
    "missing_positive": "label that may be missing",
    "confused_pair": "label that may be mistaken for another",
    "contradicting_duplicates": "near-duplicates with different labels",
    "annotator_disagreement": "annotators who disagree",
    "annotator_drift": "annotator who changed",
    # The reviewer is not to know which items test him.
    "control": "random check",
    "planted": "random check",
}
STAGE_WORDS: dict[Stage, str] = {
    "first": "",
    "second": "",  # as blind as a first one: nobody is to know
    "adjudication": "adjudication",
}
MARK_WORDS: dict[Kind, str] = {
    "word": "word of the policy",
    "evidence": "what the model points at",
    "differs": "not in the other text",
    "quote": "quoted by an annotator",
}
HELP: tuple[tuple[str, str], ...] = (
    ("h", "the merchant has it: the policy is violated"),
    ("n", "the merchant has it not"),
    ("t", "can't tell from this text"),
    ("s", "skip: somebody else may answer"),
    ("c", "write a comment"),
    ("u", "undo: take back the last answer"),
    ("enter, space", "next item, after the answer"),
    ("m", "more of a long text"),
    ("?", "this help"),
)


def verdict_words(verdict: Verdict | None) -> str:
    """What the answers so far come to."""
    if verdict is None:
        return "nobody has decided"
    if verdict.disputed:
        return "disputed"
    if verdict.holds is None:
        return "nobody could tell"
    return "has it" if verdict.holds else "has it not"


def sides(opinions: Sequence[Opinion]) -> list[tuple[str, list[Opinion]]]:
    """Opinions by answer, as a merge conflict shows them; comments last."""
    return [
        (kind, [opinion for opinion in opinions if opinion.answer == kind])
        for kind in ANSWER_WORDS
        if any(opinion.answer == kind for opinion in opinions)
    ]


def given_words(reveal: Reveal) -> str:
    """The label that the data has."""
    return "has it" if reveal.given else "has it not"


def reason_lines(reveal: Reveal) -> list[str]:
    """Why the item was in the queue, in words and figures."""
    if reveal.cause in ("control", "planted"):
        return ["drawn at random, so that what the queues miss can be estimated"]
    return [reason.text for reason in reveal.reasons]


def marks_shown(panes: Iterable[Pane]) -> list[tuple[Kind, str]]:
    """The kinds of marks in some texts, with what they mean."""
    kinds = {mark.kind for pane in panes for mark in pane.marks}
    return [(kind, words) for kind, words in MARK_WORDS.items() if kind in kinds]


def settles_words(card: Card) -> str:
    """How many records the answer settles."""
    count = len(card.twins)
    return f"also settles {count:,} record{'s' * (count > 1)} with the same words" if count else ""


def count_line(progress: Progress) -> str:
    """Progress in one line."""
    parts = [
        f"{progress.mine:,} answered by you",
        f"{progress.judged:,} judged by all",
        f"{progress.waiting:,} waiting",
    ]
    if progress.disputed:
        parts.append(f"{progress.disputed:,} disputed")
    return " · ".join(parts)


def yield_lines(estimates: Estimates | None) -> list[tuple[str, int, int, str]]:
    """For each queue that has answers: its name, wrong labels, decided cells, and the precision with its interval."""
    lines = []
    for queue in estimates.queues if estimates else ():
        if queue.decided and not math.isnan(queue.precision.point):
            share = queue.precision
            words = f"{share.point:.0%} ({share.low:.0%} to {share.high:.0%})"
            lines.append((CAUSE_WORDS[queue.cause], queue.wrong, queue.decided, words))
    return lines


def advice_line(estimates: Estimates | None) -> str:
    """Whether to go on or to stop."""
    return estimates.advice if estimates else "The estimates are being worked out."

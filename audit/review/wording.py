"""The words of the review screens, the same in the terminal and in the browser."""

import math
from collections.abc import Iterable, Sequence

from ..estimation.estimates import Estimates
from ..estimation.outcomes import Outcome
from ..storage.items import QUEUE_NAMES, Answer, AnswerKind, Stage
from .card import Card, Pane, Reveal
from .marking import Kind
from .progress import Progress

ANSWER_WORDS: dict[str, str] = {
    "has": "violates",
    "has_not": "does not violate",
    "cannot_tell": "can't tell",
    "skip": "skipped",
    "comment": "comment",
}
# "h" is the key of earlier versions.
KEYS: dict[str, AnswerKind] = {"v": "has", "h": "has", "n": "has_not", "t": "cannot_tell", "s": "skip"}
# Reviewers must not know which items test them.
CAUSE_WORDS: dict[str, str] = {str(cause): name for cause, name in QUEUE_NAMES.items()}
CAUSE_WORDS["gold"] = QUEUE_NAMES["control"]
STAGE_WORDS: dict[Stage, str] = {
    "first": "",
    "second": "",  # not shown, so that it is as blind as a first opinion
    "adjudication": "adjudication",
}
MARK_WORDS: dict[Kind, str] = {
    "word": "word from the policy",
    "evidence": "pointed out by the model",
    "differs": "not in the other text",
    "quote": "quoted by an annotator",
}
HELP: tuple[tuple[str, str], ...] = (
    ("v", "violates: the merchant violates the policy"),
    ("n", "does not violate"),
    ("t", "can't tell from this text"),
    ("s", "skip: leave it to somebody else"),
    ("c", "write a comment"),
    ("u", "undo the last answer"),
    ("enter, space", "next item, after you have answered"),
    ("m", "show more of a long text"),
    ("?", "this help"),
)


def outcome_words(outcome: Outcome | None) -> str:
    """The outcome of the answers so far."""
    if outcome is None:
        return "not decided"
    if outcome.disputed:
        return "disputed"
    if outcome.holds is None:
        return "nobody could tell"
    return ANSWER_WORDS["has" if outcome.holds else "has_not"]


def sides(answers: Sequence[Answer]) -> list[tuple[str, list[Answer]]]:
    """Answers grouped by what they say, comments last."""
    grouped = [(kind, [each for each in answers if each.answer == kind]) for kind in ANSWER_WORDS]
    return [(kind, side) for kind, side in grouped if side]


def given_words(reveal: Reveal) -> str:
    """The label in the data."""
    return ANSWER_WORDS["has" if reveal.given else "has_not"]


def reason_lines(reveal: Reveal) -> list[str]:
    """Why the item was in the queue, in words and figures."""
    if reveal.cause in ("control", "gold"):
        return ["drawn at random, to estimate how many errors the queues miss"]
    return [reason.text for reason in reveal.reasons]


def marks_shown(panes: Iterable[Pane]) -> list[tuple[Kind, str]]:
    """The kinds of marks in these texts, with their meanings."""
    kinds = {mark.kind for pane in panes for mark in pane.marks}
    return [(kind, words) for kind, words in MARK_WORDS.items() if kind in kinds]


def duplicates_words(card: Card) -> str:
    """How many other records the answer applies to, in a sentence; empty if there are none."""
    count = len(card.exact_duplicates)
    if not count:
        return ""
    return f"Your answer also applies to {count:,} record{'s' * (count > 1)} with the same words."


def count_line(progress: Progress) -> str:
    """Progress in one line."""
    parts = [
        f"{progress.mine:,} by you",
        f"{progress.reviewed:,} of {progress.reviewed + progress.waiting:,} done",
    ]
    if left := time_left(progress):
        parts.append(left)
    if progress.disputed:
        parts.append(f"{progress.disputed:,} disputed")
    return " · ".join(parts)


def time_left(progress: Progress) -> str:
    """How long the items that wait take at the pace so far; empty before the first answer."""
    found = progress.estimates
    if found is None or not found.next_items or math.isnan(found.next_minutes) or not progress.waiting:
        return ""
    return f"about {duration(progress.waiting * found.next_minutes / found.next_items)} left"


def duration(minutes: float) -> str:
    """Minutes in words: "under a minute", "12 min", "1 h 20 min", "9 h"."""
    if minutes < 1:
        return "under a minute"
    whole = round(minutes)
    if whole < 60:
        return f"{whole} min"
    hours, rest = divmod(whole, 60)
    return f"{hours} h {rest} min" if rest and hours < 5 else f"{hours} h"


def yield_lines(estimates: Estimates | None) -> list[tuple[str, int, int, str]]:
    """For each queue with answers: its name, wrong labels, decided cells, and its precision with an interval."""
    lines = []
    for queue in estimates.queues if estimates else ():
        if queue.decided and not math.isnan(queue.precision.point):
            share = queue.precision
            words = f"{share.point:.0%} ({share.low:.0%} to {share.high:.0%})"
            lines.append((CAUSE_WORDS[queue.cause], queue.wrong, queue.decided, words))
    return lines


def advice_line(estimates: Estimates | None) -> str:
    """Whether to go on or to stop, in one short line; the report has the whole of it."""
    return estimates.next_step if estimates else "The estimates are being computed."

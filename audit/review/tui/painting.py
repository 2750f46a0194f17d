"""Cards as styled text for the terminal. All styles use the terminal's own colours and so work with any theme."""

from rich.text import Text

from ....core.display import visible_line
from ...estimation.estimates import Estimates
from .. import wording
from ..card import Card, Pane, Reveal
from ..excerpt import Excerpt
from ..progress import Progress
from ..session import Session

_STYLES = {
    "evidence": "bold black on yellow",
    "quote": "bold black on green",
    "differs": "bold black on cyan",
    "word": "underline",
}
# If a piece has several, the first one decides its colours.
_ORDER = ("quote", "differs", "evidence", "word")


def pane_text(pane: Pane, part: Excerpt, role: str = "") -> Text:
    """A record's text with its marks, under a line that identifies it."""
    record = pane.record
    pieces = (role, record.id, record.domain or "", record.country or "")
    text = Text(" · ".join(visible_line(piece) for piece in pieces if piece) + "\n\n", style="dim")
    if part.start:
        text.append(f"… {part.start:,} characters before\n\n", style="dim italic")
    for segment in part.segments:
        if segment.heading:
            text.append(f"── {segment.text}\n", style="dim")
            continue
        style = next((_STYLES[kind] for kind in _ORDER if kind in segment.kinds), "not dim")
        text.append(segment.text, style="reverse not dim" if segment.odd else f"not dim {style}")
    if part.end < part.total:
        text.append(f"\n\n… {part.total - part.end:,} more characters: m", style="italic")
    return text


def policy_text(card: Card) -> Text:
    """The policy and its definition."""
    policy = card.policy
    text = Text()
    if stage := wording.STAGE_WORDS[card.stage]:
        text.append(f"{stage}\n", style="bold magenta")
    text.append(f"{policy.title}\n", style="bold")
    text.append(f"{policy.severity}\n\n", style="dim")
    text.append("Includes\n", style="bold")
    text.append(f"{policy.covers}\n")
    if policy.excludes:
        text.append("\nExcludes\n", style="bold")
        text.append(f"{policy.excludes}\n")
    if kinds := wording.marks_shown(card.panes):
        text.append("\n")
        for kind, words in kinds:
            text.append(words, style=_STYLES[kind])
            text.append("\n")
    if duplicates := wording.duplicates_words(card):
        text.append(f"\n{duplicates}\n", style="italic")
    return text


def reveal_text(reveal: Reveal) -> Text:
    """What is shown after the answer."""
    text = Text()
    text.append("current label   ", style="dim")
    text.append(f"{wording.given_words(reveal)}\n", style="bold")
    text.append("model           ", style="dim")
    text.append(f"{reveal.model_probability:.1%}\n", style="bold")
    text.append("queue           ", style="dim")
    text.append(f"{wording.CAUSE_WORDS[reveal.cause]}\n")
    if reveal.other_policy is not None:
        text.append("possibly right  ", style="dim")
        text.append(f"{reveal.other_policy.title}\n")
    for line in wording.reason_lines(reveal):
        text.append(f"· {visible_line(line)}\n")
    text.append("\n")
    text.append_text(answers_text(reveal))
    return text


def answers_text(reveal: Reveal) -> Text:
    """All answers on the cell with their comments, grouped by answer."""
    text = Text()
    for kind, answers in wording.sides(reveal.answers):
        text.append(f"{wording.ANSWER_WORDS[kind]}\n", style="bold")
        for answer in answers:
            text.append(f"· {visible_line(answer.reviewer)}\n")
            if answer.comment:
                text.append(f"  “{visible_line(answer.comment)}”\n", style="italic")
    text.append(f"so far: {wording.outcome_words(reveal.outcome)}\n", style="dim")
    return text


def top_line(session: Session, progress: Progress) -> Text:
    """The reviewer, and the progress."""
    return Text(f"{session.reviewer} · {wording.count_line(progress)}", no_wrap=True, overflow="ellipsis")


def advice(estimates: Estimates | None) -> Text:
    """What to do next, and how many of the decided labels were wrong; cut at the end of the line."""
    text = Text(wording.advice_line(estimates), no_wrap=True, overflow="ellipsis")
    lines = wording.yield_lines(estimates)
    if decided := sum(of for _, _, of, _ in lines):
        wrong = sum(wrong for _, wrong, _, _ in lines)
        text.append(f"  Wrong so far: {wrong:,} of {decided:,}.", style="dim")
    return text


def key_line(*, answered: bool) -> Text:
    """The keys that work now."""
    keys = (
        [("enter", "next"), ("u", "undo"), ("c", "comment")]
        if answered
        else [
            ("v", "violates"),
            ("n", "does not violate"),
            ("t", "can't tell"),
            ("s", "skip"),
            ("c", "comment"),
            ("u", "undo"),
        ]
    )
    text = Text(no_wrap=True, overflow="ellipsis")
    for key, words in [*keys, ("m", "more"), ("?", "help"), ("q", "quit")]:
        text.append(f" {key} ", style="bold reverse")
        text.append(f" {words}   ")
    return text


def finished(session: Session) -> Text:
    """The message when the queue is empty."""
    if session.adjudicate:
        return Text("There are no disputes left for you to decide.\n\nPress q.")
    return Text(
        "There is nothing left for you: every item is answered, or another reviewer is looking at it.\n\n"
        "u undoes your last answer, enter checks again, q quits. To decide disputes: label-audit review AUDIT --adjudicate"
    )

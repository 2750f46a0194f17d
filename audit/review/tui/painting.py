"""Cards as styled text for the terminal. Styles are bold, underline, reverse and the terminal's own colours: they suit any theme."""

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
# The first that a piece has decides its colours.
_ORDER = ("quote", "differs", "evidence", "word")


def pane_text(pane: Pane, part: Excerpt, role: str = "") -> Text:
    """A record's text with its marks, under a line that says which one it is."""
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
        text.append(f"\n\n… {part.total - part.end:,} characters more: m", style="italic")
    return text


def policy_text(card: Card) -> Text:
    """The question and the policy's definition."""
    policy = card.policy
    text = Text()
    if stage := wording.STAGE_WORDS[card.stage]:
        text.append(f"{stage}\n", style="bold magenta")
    text.append(f"{policy.title}\n", style="bold")
    text.append(f"{policy.severity}\n\n", style="dim")
    text.append("covers\n", style="bold")
    text.append(f"{policy.covers}\n")
    if policy.excludes:
        text.append("\nnot\n", style="bold")
        text.append(f"{policy.excludes}\n")
    if kinds := wording.marks_shown(card.panes):
        text.append("\n")
        for kind, words in kinds:
            text.append(words, style=_STYLES[kind])
            text.append("\n")
    if duplicate_count := wording.duplicates_words(card):
        text.append(f"\nAn answer {duplicate_count}.\n", style="italic")
    return text


def reveal_text(reveal: Reveal) -> Text:
    """What is shown after the answer."""
    text = Text()
    text.append("the data say    ", style="dim")
    text.append(f"{wording.given_words(reveal)}\n", style="bold")
    text.append("the model       ", style="dim")
    text.append(f"{reveal.model_probability:.1%}\n", style="bold")
    text.append("in the queue as ", style="dim")
    text.append(f"{wording.CAUSE_WORDS[reveal.cause]}\n")
    if reveal.other_policy is not None:
        text.append("perhaps meant   ", style="dim")
        text.append(f"{reveal.other_policy.title}\n")
    for line in wording.reason_lines(reveal):
        text.append(f"· {visible_line(line)}\n")
    text.append("\n")
    text.append_text(opinions_text(reveal))
    return text


def opinions_text(reveal: Reveal) -> Text:
    """All answers on the cell with their comments, side against side."""
    text = Text()
    for answer, opinions in wording.sides(reveal.opinions):
        text.append(f"{wording.ANSWER_WORDS[answer]}\n", style="bold")
        for opinion in opinions:
            text.append(f"· {visible_line(opinion.reviewer)}\n")
            if opinion.comment:
                text.append(f"  “{visible_line(opinion.comment)}”\n", style="italic")
    text.append(f"so far: {wording.outcome_words(reveal.outcome)}\n", style="dim")
    return text


def top_line(session: Session, progress: Progress) -> Text:
    """Who reviews, and how far it is."""
    return Text(f"{session.reviewer} · {wording.count_line(progress)}", no_wrap=True, overflow="ellipsis")


def advice(estimates: Estimates | None) -> Text:
    """The estimate of what is left, and the queues so far."""
    text = Text(wording.advice_line(estimates))
    shares = [f"{name} {wrong}/{of}" for name, wrong, of, _ in wording.yield_lines(estimates)]
    if shares:
        text.append(f"  wrong so far: {', '.join(shares)}", style="dim")
    return text


def key_line(*, answered: bool) -> Text:
    """The keys that do something now."""
    keys = (
        [("enter", "next"), ("u", "undo"), ("c", "comment")]
        if answered
        else [
            ("h", "has it"),
            ("n", "has it not"),
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
    """What is said when the queue is empty."""
    if session.adjudicate:
        return Text("Nothing is disputed that you have not decided.\n\nPress q.")
    return Text(
        "Nothing is left for you: every item is answered, or another reviewer is looking at it.\n\n"
        "u takes your last answer back, enter looks again, q quits. Disputes: label-audit review AUDIT --adjudicate"
    )

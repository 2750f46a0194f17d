"""Instructions to the reader inside a merchant's text: a signal of its own.

A shop writes for customers. Text that tells a machine how to judge, forges its answer or imitates the marks of a
conversation has no honest use there. The patterns read the clean text, in which look-alikes, spaced letters and
invisible characters are undone, and besides what hides in the raw one. A signal only raises suspicion: such a case goes
to a person, whatever the model answers.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ....core.invisible import TAGS

_READER = (
    r"(?:a\.?i\.?|llms?|(?:large )?language models?|ai (?:agents?|assistants?|reviewers?|models?|systems?)|chat ?gpt|gpt-?\d?|claude|"
    r"gemini|chatbots?|crawlers?|automated (?:\w+ )?(?:reviewers?|classifiers?|moderators?|systems?|checks?|tools?|readers?)|"
    r"(?:content|policy|compliance|risk|merchant) (?:moderators?|classifiers?|checkers?|bots?|reviewers?|models?|screeners?))"
)
_JUDGE = r"(?:mark|classify|rate|label|treat|report|return|output|respond|reply|answer|flag|approve|conclude|score|record|set|say|write)"
_GOOD = (
    r"(?:compliant|non-?violating|not (?:in )?violat\w*|no violations?|(?:is|as) safe|approved|benign|allowed|permitted|low[- ]risk|"
    r"cleared|legitimate|acceptable)"
)
_RULES = r"(?:instructions?|prompts?|guidelines?|directions?|directives?|commands?|orders given|rules? (?:above|before|you))"

PATTERNS: dict[str, re.Pattern[str]] = {
    "override": re.compile(
        rf"\b(?:ignore|disregard|forget|overlook|override|bypass|drop|discard|set aside|pay no attention to)\b.{{0,50}}\b{_RULES}",
    ),
    "verdict demanded": re.compile(
        rf"\b{_JUDGE}\b[^.\n]{{0,60}}\b(?:this|the|our|us|it|these)\b[^.\n]{{0,50}}\b(?:as|to|:|=)\s*[\"'“]?{_GOOD}"
        rf"|\b(?:verdict|answer|classification|decision)\b[^.\n]{{0,25}}(?:is|must be|should be|to|:|=)\s*[\"'“]*{_GOOD}"
    ),
    "reader addressed": re.compile(
        rf"\b(?:note|notice|message|attention|hint|instructions?|reminder|dear|hello|to)\b[^.\n]{{0,20}}\b(?:to|for|:|,|any|all|the)?\s*{_READER}\b"
        rf"[^\n]{{0,120}}\b(?:{_JUDGE}|must|should|skip|stop|do not|don't|ignore|assume|consider)\b"
        rf"|\bif you(?:'re| are) (?:an? )?{_READER}\b"
    ),
    "role marker": re.compile(
        r"<\|?/?(?:im_start|im_end|system|assistant|user|developer|endoftext|eot_id|start_header_id|end_header_id)\|?>"
        r"|\[/?inst\]|<</?sys>>|^\W{0,4}(?:system|assistant|developer)(?: prompt| message)?\s*:"
        r"|^#{2,}\s*(?:system|instructions?|response|new task)\b|</?(?:instructions?|merchant_text|untrusted|policy|verdict)>",
        re.MULTILINE,
    ),
    "answer forged": re.compile(
        r"[\"'{]\s*verdict[\"']?\s*[:=]|\bend_code\b|\"quotes\"\s*:|\bend of (?:the )?(?:text|document|input|merchant text)\b.{0,40}\bcode\b"
    ),
    "persona": re.compile(
        r"\byou are (?:now|no longer)\b.{0,60}\b(?:assistant|model|reviewer|classifier|mode|bound|ai)\b|\bdeveloper mode\b.{0,30}\b(?:on|enabled|active)"
        r"|\b(?:your|the) system prompt\b|\bnew (?:system )?(?:instructions?|task)\s*:|\b(?:pretend|act as if|assume) (?:that )?(?:you|this (?:text|site|"
        r"shop|merchant)|the polic)"
    ),
    "authority": re.compile(
        r"\b(?:pre-?approved|already (?:been )?(?:reviewed|approved|cleared|verified)|white-?listed|exempt(?:ed)?)\b.{0,80}"
        r"\b(?:compliance|risk|trust|policy|underwriting|review|moderation|safety) (?:team|department|checks?|review|process|desk|officer)"
        r"|\b(?:compliance|risk|trust (?:and|&) safety|policy|underwriting|moderation) (?:team|department|desk|officer)\b.{0,60}"
        r"\b(?:has|have|already)\b.{0,30}\b(?:pre-?approved|approved|cleared|exempted|white-?listed|signed off)"
    ),
    "foreign": re.compile(
        r"\b(?:ignor\w*|oubli\w+|olvid\w+|vergiss|missachte\w*|desconsider\w+|dimentic\w+)\b.{0,50}\b(?:instru[ck]\w+|anweisung\w*|instruç\w+|"
        r"istruzion\w+|consign\w+)|(?:忽略|无视|忘记).{0,20}(?:指令|指示|说明)|(?:игнориру|забуд)\w*.{0,40}(?:инструкц|указан)\w*"
    ),
}
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{24,}={0,2}(?![A-Za-z0-9+/])")
_TAG_RUN = re.compile(f"[{TAGS}]{{4,}}")
_LETTERS = re.compile(r"[^a-z]+")
# Without spaces and signs, for words that were broken up: long enough not to arise by chance.
_BROKEN_UP = re.compile(
    r"(?:ignore|disregard|forget)(?:all|any|the|your)?(?:previous|prior|above|earlier)?(?:instructions|rules|prompt)"
    r"|(?:mark|classify|label|report)(?:this|us|the)(?:site|shop|store|merchant|page)?as(?:compliant|safe)|verdictcompliant"
)
_MOST_CHARACTERS = 400_000


@dataclass(frozen=True, slots=True)
class Signal:
    """A sign of an attack: its kind, where it was seen, and the words."""

    kind: str
    place: str
    words: str


def injection_signals(raw: str, clean_text: str, hidden: str = "") -> tuple[Signal, ...]:
    """What in a merchant's text addresses the machine that reads it.

    :param raw: the text before cleaning.
    :param hidden: text that visitors do not see: there any pattern counts.
    """
    found: dict[tuple[str, str], Signal] = {}
    for place, text in _layers(
        raw[:_MOST_CHARACTERS], clean_text[:_MOST_CHARACTERS], hidden[:_MOST_CHARACTERS]
    ):
        for signal in _in_text(place, text):
            found.setdefault((signal.kind, signal.place), signal)
    return tuple(found.values())


def _layers(raw: str, clean_text: str, hidden: str) -> Iterator[tuple[str, str]]:
    """The readings of a text in which an instruction may stand."""
    yield "text", clean_text
    yield "text", raw
    if hidden:
        yield "hidden", hidden
    for run in _TAG_RUN.findall(raw + hidden):
        smuggled = "".join(chr(ord(letter) - 0xE0000) for letter in run if 0xE0020 <= ord(letter) <= 0xE007E)
        if smuggled:
            yield "invisible characters", smuggled
    for match in _BASE64.finditer(raw):
        decoded = _decoded(match[0])
        if decoded:
            yield "base64", decoded
    yield "reversed", clean_text[::-1]


def _decoded(run: str) -> str | None:
    try:
        content = base64.b64decode(run + "=" * (-len(run) % 4), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return content if content.isprintable() else None


def _in_text(place: str, text: str) -> Iterator[Signal]:
    low = text.lower()
    if place == "invisible characters":
        yield Signal("smuggled text", place, text[:120])
    for kind, pattern in PATTERNS.items():
        if (match := pattern.search(low)) is not None:
            yield Signal(kind, place, text[match.start() : match.end()][:120])
    if (broken := _BROKEN_UP.search(_LETTERS.sub("", low))) is not None:
        yield Signal("override", place, broken[0])

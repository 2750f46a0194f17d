"""Quotes are proven: an exact part of the merchant's clean text, long enough, and about the policy.

A quote that is nearly right proves nothing: a model that changes a word can change the meaning.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.cleaning.text import clean
from ...serve.scorer import Scorer
from .answer import Answer, Reply, Verdict, read_answer
from .question import Question

QuoteScores = Callable[[Sequence[str], str], NDArray[np.float64]]
"""Gives, for texts and a policy, how far each one's probability lies above the review threshold (log odds)."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
# Function words of English and of other Latin languages that merchants mix in; numbers do not count either.
_EMPTY = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "he",
        "her",
        "his",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "me",
        "my",
        "no",
        "nor",
        "not",
        "of",
        "on",
        "or",
        "our",
        "she",
        "so",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "too",
        "up",
        "us",
        "was",
        "we",
        "were",
        "what",
        "when",
        "which",
        "who",
        "will",
        "with",
        "would",
        "yes",
        "you",
        "your",
        "de",
        "la",
        "le",
        "les",
        "el",
        "los",
        "das",
        "der",
        "die",
        "und",
        "et",
        "en",
    ]
)


@dataclass(frozen=True, slots=True)
class ProofRule:
    """What a quote must be.

    :param characters: least length.
    :param words: fewest words, of which `content_words` are neither function words nor numbers.
    :param floor: least log odds of the encoder for the policy, against its review threshold: -2.3 is a tenth of the odds.
    """

    characters: int = 12
    words: int = 3
    content_words: int = 2
    floor: float = -2.3


@dataclass(frozen=True, slots=True)
class ProvenQuote:
    """A quote with its place: `start`, `end` in the clean text, `source` in the merchant's own."""

    text: str
    start: int
    end: int
    source: tuple[int, int]
    score: float


@dataclass(frozen=True, slots=True)
class Opinion:
    """What an answer counts as.

    :param verdict: the stated one if it is proven, else "cannot tell".
    :param stated: what the model said.
    :param faults: why the answer does not count, or which quotes do not.
    """

    verdict: Verdict
    stated: Verdict
    probability: float | None
    quotes: tuple[ProvenQuote, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether the answer decides and is proven."""
        return self.verdict != "cannot tell"


def prove(question: Question, reply: Reply, scores: QuoteScores, rule: ProofRule | None = None) -> Opinion:
    """Check an answer: the code of the text's end, then every quote.

    Every quote must pass: a model that invents one of three has not read the others either. A quote of a violation must
    reach the floor; one of compliance must reach it too or touch a passage that carries the finding: it has to speak to
    what is suspected.
    """
    rule = rule or ProofRule()
    answer = read_answer(reply)
    if answer.fault is not None:
        return Opinion("cannot tell", "cannot tell", reply.probability, faults=(answer.fault,))
    if answer.verdict == "cannot tell":
        return Opinion("cannot tell", "cannot tell", reply.probability)
    faults = _whole_faults(question, answer)
    places = [_place(question, quote, rule) for quote in answer.quotes]
    faults += [place for place in places if isinstance(place, str)]
    found = [place for place in places if not isinstance(place, str)]
    policy = question.case.policy
    margins = scores([text for text, _, _ in found], policy) if found else np.zeros(0)
    quotes = []
    for (text, start, end), score in zip(found, margins, strict=True):
        if score < rule.floor and not (answer.verdict == "compliant" and _touches(question, start, end)):
            faults.append(
                f"{text[:60]!r} says too little about {policy} ({score:+.1f} against {rule.floor:+.1f})"
            )
            continue
        source = question.case.clean.original_span(start, end)
        quotes.append(ProvenQuote(text, start, end, source, float(score)))
    verdict: Verdict = "cannot tell" if faults else answer.verdict
    return Opinion(verdict, answer.verdict, reply.probability, tuple(quotes), tuple(faults))


def _whole_faults(question: Question, answer: Answer) -> list[str]:
    faults = []
    if answer.end_code != question.code:
        faults.append("the code of the text's end is wrong: the model has not read it whole")
    if not answer.quotes:
        faults.append("there is no quote")
    return faults


def _place(question: Question, quote: str, rule: ProofRule) -> tuple[str, int, int] | str:
    """The clean quote and its range in the clean text, where it was shown; or what is wrong with it."""
    text = clean(quote).text.strip()
    words = _WORD.findall(text)
    content = [word for word in words if not word.isdigit() and word.lower() not in _EMPTY]
    if len(text) < rule.characters or len(words) < rule.words or len(content) < rule.content_words:
        return f"{text[:60]!r} is too short to prove anything"
    whole = question.case.clean.text
    for first, last in question.shown:
        start = whole.find(text, first, last)
        while start >= 0 and not _at_words(whole, start, start + len(text)):
            start = whole.find(text, start + 1, last)
        if start >= 0:
            return text, start, start + len(text)
    return f"{text[:60]!r} is not in the text"


def _at_words(text: str, start: int, end: int) -> bool:
    """Whether a range begins and ends between words: "legal cannabis" is no quote of "illegal cannabis"."""
    inside_before = start > 0 and text[start - 1].isalnum() and text[start].isalnum()
    inside_after = end < len(text) and text[end - 1].isalnum() and text[end].isalnum()
    return not (inside_before or inside_after)


def _touches(question: Question, start: int, end: int) -> bool:
    return any(start < last and first < end for first, last in question.case.clean_spans)


def quote_scores(scorer: Scorer) -> QuoteScores:
    """Scores of quotes by the bundle that found the cases."""
    columns = {policy.id: (number, policy.review) for number, policy in enumerate(scorer.policies)}

    def score(texts: Sequence[str], policy: str) -> NDArray[np.float64]:
        column, review = columns[policy]
        found = [assessment.probabilities[column] for assessment in scorer.assess_many(texts)]
        p = np.clip(np.array(found, dtype=np.float64), 1e-9, 1.0 - 1e-9)
        limit = min(max(float(review), 1e-9), 1.0 - 1e-9)
        return np.asarray(np.log(p / (1.0 - p)) - np.log(limit / (1.0 - limit)))

    return score

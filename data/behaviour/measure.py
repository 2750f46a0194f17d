"""The behaviour tests: minimum functionality, invariance, direction and dilution (after CheckList, Ribeiro et al. 2020)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ...core.decisions import Decision
from .figures import Behaviour, Dilution, Share
from .suite import Frame, Offer, OrdinaryLine, Suite
from .variations import VARIATIONS, diluted

SENTENCES = 20
"""Harmless sentences before a diluted offer."""

EVERY = 4
"""By default every fourth text is framed, varied and diluted: enough to see a weakness, and done in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class TextScores:
    """Probabilities float32 (N, K), in the order of the policies, and the decision on each of N texts."""

    probabilities: NDArray[np.float32]
    decisions: Sequence[Decision]


Score = Callable[[Sequence[str]], TextScores]


@dataclass(frozen=True, slots=True)
class _Changed:
    """A text made from another one: `group` names the frame or the variation."""

    group: str
    original: Offer | OrdinaryLine
    text: str


def behaviour(score: Score, policies: Sequence[str], suite: Suite, *, every: int = EVERY) -> Behaviour:
    """Test a model on a suite.

    :param score: called once, with every text; gives probabilities in the order of `policies`.
    :param every: how many offers and ordinary lines there are to one that is framed, varied and diluted; each is put
        into one frame of each kind, the frames of a kind taking turns.
    :raises ValueError: if `every` is not positive.
    """
    if every < 1:
        raise ValueError(f"every is {every}; it must be positive")
    suite, unknown = suite.under(policies)
    offers = suite.offers[::every]
    framed, varied = _framed(offers, suite.frames), _varied((*offers, *suite.ordinary[::every]))
    thinned = _diluted(offers[::2], suite.ordinary)
    texts = [offer.text for offer in suite.offers]
    texts += [line.text for line in suite.ordinary]
    texts += [each.text for each in framed]
    texts += [each.text for each in varied]
    texts += [each.text for each in thinned]
    texts += [text for pair in suite.direction for text in (pair.violating, pair.compliant)]
    answers = _Answers.of(score, texts, policies)
    return Behaviour(
        offers=_shares((offer.policy, answers.found(offer.text)) for offer in suite.offers),
        ranked_first=_share(answers.first(offer.text) == offer.policy for offer in suite.offers),
        ordinary=_shares((line.kind, answers.found(line.text)) for line in suite.ordinary),
        framed=_shares((each.group, answers.found(each.text)) for each in framed),
        unchanged=_shares((each.group, answers.same(each.text, each.original.text)) for each in varied),
        ordered=_shares(
            (pair.policy, answers.of_policy(pair.violating, pair.policy) > answers.of_policy(pair.compliant, pair.policy))
            for pair in suite.direction
        ),
        pairs_found=_share(answers.found(pair.violating) for pair in suite.direction),
        pairs_passed=_share(not answers.found(pair.compliant) for pair in suite.direction),
        dilution=_dilution(thinned, answers),
        missed=tuple(offer.id for offer in suite.offers if not answers.found(offer.text)),
        suspected=tuple(line.id for line in suite.ordinary if answers.found(line.text)),
        unknown_policies=unknown,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """What the model says of each text."""

    scores: TextScores
    policies: Sequence[str]
    rows: dict[str, int] = field(repr=False)

    @classmethod
    def of(cls, score: Score, texts: Iterable[str], policies: Sequence[str]) -> "_Answers":
        """Score every text, equal ones once."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return cls(TextScores(np.zeros((0, len(policies)), np.float32), ()), policies, {})
        scores = score(distinct)
        if scores.probabilities.shape != (len(distinct), len(policies)):
            raise ValueError(
                f"probabilities have shape {scores.probabilities.shape}; expected ({len(distinct)}, {len(policies)})"
            )
        return cls(scores, policies, {text: row for row, text in enumerate(distinct)})

    def found(self, text: str) -> bool:
        """Whether the decision on a text is not clear."""
        return self.scores.decisions[self.rows[text]] != "clear"

    def same(self, text: str, other: str) -> bool:
        """Whether two texts get the same decision."""
        return self.scores.decisions[self.rows[text]] == self.scores.decisions[self.rows[other]]

    def of_policy(self, text: str, policy: str) -> float:
        """A policy's probability."""
        return float(self.scores.probabilities[self.rows[text], self.policies.index(policy)])

    def first(self, text: str) -> str:
        """The most probable policy of a text."""
        return self.policies[int(self.scores.probabilities[self.rows[text]].argmax())]


def _framed(offers: Sequence[Offer], frames: Sequence[Frame]) -> list[_Changed]:
    """Each offer in one frame of each kind."""
    by_kind: dict[str, list[Frame]] = {}
    for frame in frames:
        by_kind.setdefault(frame.kind, []).append(frame)
    return [
        _Changed(kind, offer, group[turn % len(group)].around(offer.text))
        for kind, group in by_kind.items()
        for turn, offer in enumerate(offers)
    ]


def _varied(lines: Iterable[Offer | OrdinaryLine]) -> list[_Changed]:
    """Each line in each variation that changes it."""
    lines = list(lines)
    changed = [_Changed(name, line, vary(line.text)) for name, vary in VARIATIONS.items() for line in lines]
    return [each for each in changed if each.text != each.original.text]


def _diluted(offers: Sequence[Offer], ordinary: Sequence[OrdinaryLine]) -> list[_Changed]:
    """Each offer after `SENTENCES` ordinary lines, which follow each other in the file; other ones for each offer."""
    # A line with a word that is close to a policy may raise the probability, which is not what this tests.
    harmless = [line.text for line in ordinary if line.kind != "near"]
    if len(harmless) < SENTENCES:
        return []
    twice = harmless + harmless
    starts = [turn * SENTENCES % len(harmless) for turn in range(len(offers))]
    return [
        _Changed("dilution", offer, diluted(offer.text, twice[start : start + SENTENCES]))
        for offer, start in zip(offers, starts, strict=True)
    ]


def _dilution(thinned: Sequence[_Changed], answers: _Answers) -> Dilution | None:
    ratios = []
    for each in thinned:
        assert isinstance(each.original, Offer)
        alone = answers.of_policy(each.original.text, each.original.policy)
        if alone > 0:
            ratios.append(answers.of_policy(each.text, each.original.policy) / alone)
    if not ratios:
        return None
    kept = sum(ratio >= 0.5 for ratio in ratios)
    return Dilution(len(ratios), SENTENCES, median(ratios), min(ratios), kept)


def _shares(outcomes: Iterable[tuple[str, bool]]) -> dict[str, Share]:
    """The share that is true, by name, in the order in which the names come."""
    grouped: dict[str, list[bool]] = {}
    for name, right in outcomes:
        grouped.setdefault(name, []).append(right)
    return {name: _share(rights) for name, rights in grouped.items()}


def _share(outcomes: Iterable[bool]) -> Share:
    rights = list(outcomes)
    return Share(sum(rights), len(rights))

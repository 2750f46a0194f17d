"""The passages of a text that carry a finding.

Two questions are put to the model about every passage of a window: what does it say of the passage alone,
and how far does the policy's logit fall when the passage is left out (occlusion; Zeiler and Fergus, 2014,
for images; Li, Monroe and Jurafsky, 2016, for text)? The first finds a sentence that shows the policy by
itself, the second one that does so among the others. bench/evidence.py measures what they are worth.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.passages import split_passages
from .session import Floats

# Window logits (n, K) of n texts.
ScoreTexts = Callable[[Sequence[str]], Floats]
# Ranges of a text for each policy, best first.
Ranges = list[list[tuple[int, int]]]
# A search that asks for the logits of texts and is sent them.
Search = Generator[list[str], Floats, Ranges]


@dataclass(frozen=True, slots=True)
class EvidenceOptions:
    """How evidence is looked for.

    `spans`: at most so many a finding, 0 turns evidence off. `alone`: weight, in [0, 1], of the passage's
    own logit; the rest goes to the fall of the logit without it. `left_out`: so many of the passages that
    are best alone are also left out in turn (each costs one run of the window), and the best one of each policy. `near`: a further span must
    come within this many logits of the first. `shortest`, `longest`: characters in a passage.
    """

    spans: int = 3
    alone: float = 0.25
    left_out: int = 6
    near: float = 2.0
    shortest: int = 12
    longest: int = 300


def find_spans(searches: Sequence[Search], score: ScoreTexts) -> list[Ranges]:
    """Carry searches out side by side: what they ask for at the same step goes through the model together."""
    found: list[Ranges] = [[] for _ in searches]
    asked: dict[int, list[str]] = {}
    answers: dict[int, Floats | None] = dict.fromkeys(range(len(searches)))
    while answers:
        for number, answer in answers.items():
            try:
                # A generator is started by sending it None.
                asked[number] = searches[number].send(answer)  # type: ignore[arg-type]
            except StopIteration as end:
                found[number] = end.value
        if not asked:
            return found
        logits = score([text for texts in asked.values() for text in texts])
        ends = np.cumsum([len(texts) for texts in asked.values()])[:-1]
        answers = dict(zip(asked, np.split(logits, ends), strict=True))
        asked = {}
    return found


def search_spans(text: str, logits: Floats, policies: Sequence[int], *, options: EvidenceOptions) -> Search:
    """A search for the ranges of `text` that carry each of `policies` (output columns), best first.

    :param text: what one window covers.
    :param logits: the window's logits (K,).
    """
    passages = split_passages(text, shortest=options.shortest, longest=options.longest)
    if len(passages) < 2:
        return [[_capped(passage, options) for passage in passages] for _ in policies]
    alone = (yield [text[start:end] for start, end in passages])[:, list(policies)]
    worth = alone
    if options.alone < 1 and options.left_out > 0:
        candidates = _candidates(alone, options.left_out)
        without = yield [text[: passages[row][0]] + text[passages[row][1] :] for row in candidates]
        fall = logits[list(policies)] - without[:, list(policies)]
        # What was not looked at closely is no candidate.
        worth = np.full_like(alone, -np.inf)
        worth[candidates] = options.alone * alone[candidates] + (1 - options.alone) * fall
    return [_best(passages, worth[:, column], options) for column in range(len(policies))]


def _candidates(alone: Floats, most: int) -> NDArray[np.int64]:
    """Passages that are worth leaving out, given their logits alone (passages, policies): the best of each policy,
    then the second best of each, until there are `most`."""
    ranked = np.argsort(-alone, axis=0, kind="stable")
    chosen = set(ranked[0].tolist())
    for row in ranked[1:].ravel().tolist():
        if len(chosen) >= most:
            break
        chosen.add(row)
    return np.array(sorted(chosen), dtype=np.int64)


def _best(
    passages: Sequence[tuple[int, int]], worth: Floats, options: EvidenceOptions
) -> list[tuple[int, int]]:
    order = np.argsort(-worth, kind="stable")[: options.spans]
    near = [row for row in order if worth[row] >= worth[order[0]] - options.near]
    return [_capped(passages[row], options) for row in near]


def _capped(passage: tuple[int, int], options: EvidenceOptions) -> tuple[int, int]:
    # Passages are longer than this only in a text made to be hard to cut.
    return passage[0], min(passage[1], passage[0] + options.longest)

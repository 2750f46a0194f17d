"""The passages of a text that carry a finding.

Where the model says what each token adds to a policy's logit, a passage is worth what its tokens add, and evidence costs
no further run. Where it does not (pooling by the first token or the maximum, older bundles), two questions are put to it
about every passage of a window: what does it say of the passage alone, and how far does the policy's logit fall when the
passage is left out (occlusion; Zeiler and Fergus, 2014, for images; Li, Monroe and Jurafsky, 2016, for text)? The first
finds a sentence that shows the policy by itself, the second one that does so among the others. bench/evidence.py
measures what each is worth.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.passages import split_passages
from .engine.onnx_model import Floats

# Window logits (n, K) of n texts.
ScoreTexts = Callable[[Sequence[str]], Floats]
Range = tuple[int, int]
# Ranges of a text for each policy, best first.
Ranges = list[list[Range]]
# A search that asks for the logits of texts and is sent them.
Search = Generator[list[str], Floats, Ranges]


@dataclass(frozen=True, slots=True)
class EvidenceOptions:
    """How evidence is looked for.

    `spans`: at most so many a finding, 0 turns evidence off. `share`: a further span must add this share of what the
    first adds. `shortest`, `longest`: characters in a passage.

    Where the model does not say what its tokens add: `alone`: weight, in [0, 1], of the passage's own logit; the rest
    goes to the fall of the logit without it. `left_out`: so many of the passages that are best alone are also left out in
    turn (each costs one run of the window), and the best one of each policy. `near`: a further span must come within this
    many logits of the first.
    """

    spans: int = 3
    share: float = 0.35
    shortest: int = 12
    longest: int = 300
    alone: float = 0.25
    left_out: int = 6
    near: float = 2.0


def added_by_passages(
    passages: Sequence[Range], offsets: Sequence[Range], contributions: Floats
) -> NDArray[np.float64]:
    """What each passage adds to each logit, (P, K): the sum over the tokens that begin in it and speak for the policy.

    What speaks against is left out: a passage that names the goods and denies them is still where to look.

    :param offsets: characters of each token, in the same text as the passages; empty ones belong to no passage.
    :param contributions: (T, K) of those tokens.
    """
    first, last = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
    starts, ends = np.array(passages, dtype=np.int64).reshape(-1, 2).T
    owner = np.searchsorted(starts, first, side="right") - 1
    inside = (last > first) & (owner >= 0)
    inside[inside] &= first[inside] < ends[owner[inside]]
    added = np.zeros((len(passages), contributions.shape[1]))
    np.add.at(added, owner[inside], np.maximum(contributions[inside], 0.0))
    return added


def contributed_spans(
    text: str, offsets: Sequence[Range], contributions: Floats, *, options: EvidenceOptions
) -> Ranges:
    """For each column of `contributions` (T, policies) the ranges of `text` that add most to it, best first.

    :param offsets: characters of each token in `text`, which is what one window covers.
    """
    passages = split_passages(text, shortest=options.shortest, longest=options.longest)
    worth = added_by_passages(passages, offsets, contributions)
    return [_best(passages, each, options, least=options.share * each.max(initial=0.0)) for each in worth.T]


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
    return [_best(passages, each, options, least=each.max() - options.near) for each in worth.T]


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
    passages: Sequence[Range], worth: NDArray[np.floating], options: EvidenceOptions, *, least: float
) -> list[Range]:
    """The passages worth most, best first; all but the first must be worth `least`."""
    order = np.argsort(-worth, kind="stable")[: options.spans]
    return [_capped(passages[row], options) for row in order if row == order[0] or worth[row] >= least]


def _capped(passage: Range, options: EvidenceOptions) -> Range:
    # Passages are longer than this only in a text made to be hard to cut.
    return passage[0], min(passage[1], passage[0] + options.longest)

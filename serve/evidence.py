"""The passages of a text that carry a finding.

Where the graph gives an attribution (what each token adds to a policy's logit), a passage is worth what its tokens add,
and evidence costs no further run. Where it does not (pooling by the first token or the maximum, older bundles), every
passage of a window is scored in two ways: by the policy's logit of the passage alone, and by how far the logit falls
when the passage is left out (occlusion; Zeiler and Fergus, 2014, for images; Li, Monroe and Jurafsky, 2016, for text).
The first finds a sentence that shows the policy on its own, the second one that shows it in context.
bench/serving/evidence.py measures what each is worth.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.passages import split_passages
from .engine.onnx_model import Floats

ScoreTexts = Callable[[Sequence[str]], Floats]
"""Gives the logits (n, K) of n texts, each read as one window."""

Range = tuple[int, int]

Ranges = list[list[Range]]
"""Ranges of a text for each policy, best first."""

Search = Generator[list[str], Floats, Ranges]
"""A search that yields texts and is sent their logits."""


@dataclass(frozen=True, slots=True)
class EvidenceOptions:
    """How evidence is searched for.

    :param spans: most spans of a finding; 0 turns evidence off.
    :param share: a further span must add at least this share of what the first adds.
    :param shortest: characters that a passage has at least.
    :param longest: characters that a passage has at most.
    :param alone: only without attribution: weight, in [0, 1], of the passage's own logit; the rest is the weight of the
        fall of the logit without the passage.
    :param left_out: only without attribution: how many of the passages that score best alone are also left out in turn
        (each costs one run of the window); the best one of each policy always is.
    :param near: only without attribution: a further span must come within this many logits of the first.
    """

    spans: int = 3
    share: float = 0.35
    shortest: int = 12
    longest: int = 300
    alone: float = 0.25
    left_out: int = 6
    near: float = 2.0


def added_by_passages(
    passages: Sequence[Range], offsets: Sequence[Range], attribution: Floats
) -> NDArray[np.float64]:
    """What each passage adds to each logit, (P, K): the sum over the tokens that begin in it and speak for the policy.

    Tokens that speak against it are left out: a passage that names the goods and denies them is still where to look.

    :param offsets: characters of each token, in the same text as the passages; empty ones belong to no passage.
    :param attribution: (T, K) of those tokens.
    """
    first, last = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
    starts, ends = np.array(passages, dtype=np.int64).reshape(-1, 2).T
    owner = np.searchsorted(starts, first, side="right") - 1
    inside = (last > first) & (owner >= 0)
    inside[inside] &= first[inside] < ends[owner[inside]]
    added = np.zeros((len(passages), attribution.shape[1]))
    np.add.at(added, owner[inside], np.maximum(attribution[inside], 0.0))
    return added


def passages_by_attribution(
    text: str, offsets: Sequence[Range], attribution: Floats, *, options: EvidenceOptions
) -> Ranges:
    """For each column of `attribution` (T, policies) the ranges of `text` that add most to it, best first.

    :param offsets: characters of each token in `text`, which is what one window covers.
    """
    passages = split_passages(text, shortest=options.shortest, longest=options.longest)
    worth = added_by_passages(passages, offsets, attribution)
    return [_best(passages, each, options, least=options.share * each.max(initial=0.0)) for each in worth.T]


def find_passages(searches: Sequence[Search], score: ScoreTexts) -> list[Ranges]:
    """Run searches side by side: what they ask for at the same step goes through the model together."""
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


def search_passages(
    text: str, logits: Floats, policies: Sequence[int], *, options: EvidenceOptions
) -> Search:
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
        # Passages that were not left out are not compared.
        worth = np.full_like(alone, -np.inf)
        worth[candidates] = options.alone * alone[candidates] + (1 - options.alone) * fall
    return [_best(passages, each, options, least=each.max() - options.near) for each in worth.T]


def _candidates(alone: Floats, most: int) -> NDArray[np.int64]:
    """Passages that are worth leaving out, by their logits alone (passages, policies): the best of each policy,
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
    # Passages are longer than this only in a text that is made to be hard to cut.
    return passage[0], min(passage[1], passage[0] + options.longest)

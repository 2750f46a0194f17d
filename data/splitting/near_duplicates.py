"""Near-duplicate texts: MinHash finds candidates, the exact Jaccard similarity of their shingles decides."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from ...core.extras import require
from ...core.invisible import FORMAT_CHARACTERS

SHINGLE_WORDS = 3
PERMUTATIONS = 128
CANDIDATE_RECALL = 0.999
"""Probability with which a pair just at the threshold must become a candidate."""

_BATCH_TEXTS = 512
_INVISIBLE = re.compile(f"[{FORMAT_CHARACTERS}]")
# In scripts written without spaces a word would be a whole clause: there each letter is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")


def group_numbers(sets: Any) -> np.ndarray:
    """Group numbers, int64 (n,), of a `DisjointSet` over 0 to n - 1, numbered from 0 in order of appearance."""
    numbers: dict[int, int] = {}
    roots = (sets[item] for item in range(len(sets)))
    return np.array([numbers.setdefault(root, len(numbers)) for root in roots], dtype=np.int64)


def words(text: str) -> list[str]:
    """Return the words that duplicates are compared by: folded case and width, no invisible characters."""
    return _WORD.findall(_INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold())


def shingles(tokens: Sequence[str], *, width: int = SHINGLE_WORDS) -> frozenset[str]:
    """Return the runs of `width` words; a shorter text is one run of all it has."""
    width = min(width, len(tokens))
    return frozenset(" ".join(tokens[start : start + width]) for start in range(len(tokens) - width + 1))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the size of the intersection over that of the union, in [0, 1]; two empty sets are equal."""
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def near_duplicate_groups(
    texts: Sequence[str], *, threshold: float = 0.7, seed: int = 0, permutations: int = PERMUTATIONS
) -> np.ndarray:
    """Group texts that are near-duplicates of each other, directly or through others between them.

    Two texts are near-duplicates if the Jaccard similarity of their sets of three-word shingles is at
    least `threshold`. MinHash with locality-sensitive hashing (rensa) proposes the pairs: it misses one at
    the threshold with probability at most 1 - `CANDIDATE_RECALL`, and more similar ones more rarely; texts with
    the same words are never missed. The order of the texts does not change the groups.

    :return: group numbers, int64 (N,), numbered from 0 in order of appearance.
    :raises ValueError: if the threshold is not in (0, 1].
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold: {threshold} must be above 0 and at most 1")
    sets = DisjointSet(range(len(texts)))
    # Equal texts first, in a dictionary: the index would propose every pair of them.
    firsts: dict[str, int] = {}
    for number, text in enumerate(texts):
        key = " ".join(words(text)) or text
        if (first := firsts.setdefault(key, number)) != number:
            sets.merge(first, number)
    keys = list(firsts)
    numbers = list(firsts.values())

    @lru_cache(maxsize=2048)
    def shingles_of(position: int) -> frozenset[str]:
        return shingles(keys[position].split(" "))

    for newer, older in _candidates(keys, threshold=threshold, seed=seed, permutations=permutations):
        if sets.connected(numbers[newer], numbers[older]):
            continue
        if jaccard(shingles_of(newer), shingles_of(older)) >= threshold:
            sets.merge(numbers[newer], numbers[older])
    return group_numbers(sets)


def band_count(threshold: float, permutations: int) -> int:
    """Return the fewest bands that make a pair at the threshold a candidate with `CANDIDATE_RECALL`.

    With b bands of r rows that happens with probability 1 - (1 - s^r)^b at similarity s (Leskovec,
    Rajaraman and Ullman, Mining of Massive Datasets, section 3.4). Fewer bands propose fewer false pairs.
    """
    for rows in range(permutations, 1, -1):
        bands, rest = divmod(permutations, rows)
        if rest == 0 and 1.0 - (1.0 - threshold**rows) ** bands >= CANDIDATE_RECALL:
            return bands
    return permutations


def _candidates(
    keys: Sequence[str], *, threshold: float, seed: int, permutations: int
) -> Iterator[tuple[int, int]]:
    """Yield pairs of positions that may be near-duplicates, each pair once, the later position first."""
    rensa = require("rensa", "train")
    bands = band_count(threshold, permutations)
    index = rensa.RMinHashLSH(threshold=threshold, num_perm=permutations, num_bands=bands)
    for start in range(0, len(keys), _BATCH_TEXTS):
        batch = [list(shingles(key.split(" "))) for key in keys[start : start + _BATCH_TEXTS]]
        sketches = rensa.RMinHash.from_token_sets(batch, num_perm=permutations, seed=seed)
        for position, sketch in enumerate(sketches, start=start):
            for older in sorted(index.query(sketch)):
                yield position, older
            index.insert(position, sketch)

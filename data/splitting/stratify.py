"""Iterative stratification of groups of records over splits."""

import numpy as np


def assign_groups(sizes: np.ndarray, strata: np.ndarray, fractions: np.ndarray, *, seed: int) -> np.ndarray:
    """Spread groups over splits so that each split gets its share of every stratum.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-label Data,
    2011), with groups in place of records: the stratum with the fewest records still to be
    placed comes first; each of its groups, the largest first, goes to the split that lacks most of that
    stratum, or, among equals, to the one that lacks most records. Where these tie, the seed decides.

    :param sizes: records per group, (G,).
    :param strata: records per group and stratum, (G, M); a record may be in several strata, or in none.
    :param fractions: share of each split, (S,); scaled to sum to 1.
    :return: the split of each group, int64 (G,).
    """
    generator = np.random.default_rng(seed)
    shares = fractions / fractions.sum()
    lacking = np.outer(shares, strata.sum(axis=0))
    room = shares * sizes.sum()
    remaining = strata.sum(axis=0)
    splits = np.full(len(sizes), -1, dtype=np.int64)
    shuffled = generator.permutation(len(sizes))

    def place(group: int, wanted: np.ndarray) -> None:
        split = _neediest(wanted, room, generator)
        splits[group] = split
        lacking[split] -= strata[group]
        room[split] -= sizes[group]
        remaining[:] -= strata[group]

    while (remaining > 0).any():
        stratum = int(np.argmin(np.where(remaining > 0, remaining, np.iinfo(np.int64).max)))
        members = shuffled[(splits[shuffled] < 0) & (strata[shuffled, stratum] > 0)]
        for group in members[np.argsort(-strata[members, stratum], kind="stable")]:
            place(group, lacking[:, stratum])
    left = shuffled[splits[shuffled] < 0]
    for group in left[np.argsort(-sizes[left], kind="stable")]:
        place(group, room)
    return splits


def _neediest(wanted: np.ndarray, room: np.ndarray, generator: np.random.Generator) -> int:
    """Return the split that wants most; among equals the one with most room; among those, any."""
    best = np.flatnonzero(np.isclose(wanted, wanted.max(), rtol=0.0, atol=1e-9))
    best = best[np.isclose(room[best], room[best].max(), rtol=0.0, atol=1e-9)]
    return int(best[0]) if len(best) == 1 else int(generator.choice(best))

"""Unicode NFKC (UAX #15) with the way back, unseen characters out and floods of combining marks capped."""

import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .characters import DROPPED, JOINING, NEWLINE, SIMPLE, Codes, Positions, Spans, characters, expand
from .unicode_data import category, name

_GENERAL_MARKS_KEPT = 2  # marks of any script, as in Zalgo text
_MARKS_KEPT = 6  # some scripts need more: Burmese stacks four, pointed Hebrew three
_CLUSTER_READ = 32  # characters read of one combining sequence; normalising is quadratic in them
_CLUSTERS_AT_ONCE = 1 << 16  # bounds the Python objects alive at a time


def normalise(codes: Codes) -> Spans:
    """Drop invisible characters, apply NFKC, cap combining marks."""
    kinds = characters().kinds(codes)
    keep = kinds != DROPPED
    keep[:-1] &= (codes[:-1] != 0x0D) | (codes[1:] != NEWLINE)
    starts: Positions = np.flatnonzero(keep).astype(np.int32 if codes.size < 2**31 - 1 else np.int64)
    codes, kinds = codes[keep], kinds[keep]
    if not codes.size or kinds.max() == SIMPLE:
        return characters().single[codes], starts, starts + 1
    return _compose(codes, kinds, starts)


def _compose(codes: Codes, kinds: npt.NDArray[np.uint8], positions: Positions) -> Spans:
    """Normalise combining sequences in Python, the characters that stand alone in numpy."""
    heads = kinds != JOINING
    heads[0] = True
    first = np.flatnonzero(heads)
    after = np.append(first[1:], codes.size)
    alone = (after - first == 1) & (kinds[first] == SIMPLE)
    text = codes.tobytes().decode("utf-32-le")
    composed, lengths = _compose_clusters(text, first[~alone], after[~alone])
    sizes = np.ones(first.size, np.int32)
    sizes[~alone] = lengths
    from_one = np.repeat(alone, sizes)
    out = np.empty(from_one.size, np.uint32)
    out[from_one] = characters().single[codes[first[alone]]]
    out[~from_one] = np.frombuffer(composed.encode("utf-32-le"), "<u4")
    return out, np.repeat(positions[first], sizes), np.repeat(positions[after - 1] + 1, sizes)


def _compose_clusters(text: str, first: Positions, after: Positions) -> tuple[str, npt.NDArray[np.int32]]:
    """Compose the given spans of `text`; returns the results end to end, and the length of each."""
    lengths = np.empty(first.size, np.int32)
    parts = []
    for at in range(0, first.size, _CLUSTERS_AT_ONCE):
        here = slice(at, at + _CLUSTERS_AT_ONCE)
        ends = np.minimum(after[here], first[here] + _CLUSTER_READ).tolist()
        composed = [_compose_cluster(text[a:b]) for a, b in zip(first[here].tolist(), ends, strict=True)]
        lengths[here] = list(map(len, composed))
        parts.append("".join(composed))
    return "".join(parts), lengths


@lru_cache(maxsize=1 << 16)
def _compose_cluster(cluster: str) -> str:
    """Compose one character and those that join it; marks beyond the cap, or without a base, are dropped."""
    text = unicodedata.normalize("NFC", "".join(map(expand, cluster)))
    kept: list[str] = []
    general = marks = _MARKS_KEPT
    for character in text:
        if category(character)[0] != "M":
            general = marks = _MARKS_KEPT if character in " \n" else 0
            kept.append(character)
            continue
        marks += 1
        general += name(character).startswith("COMBINING")
        # Over the cap all further marks go: after a gap, later marks could compose.
        if general > _GENERAL_MARKS_KEPT or marks > _MARKS_KEPT:
            general = marks = _MARKS_KEPT
            continue
        kept.append(character)
    return "".join(kept)

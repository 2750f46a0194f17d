# ruff: noqa: TID251 - a script beside the package, which imports it as any user does
"""Writes `data/unicode.json`: what cleaning knows about characters, for the Node port.

    python clients/node/make_tables.py > clients/node/data/unicode.json

JavaScript's own tables are of another Unicode version, and its `\\s`, `\\w` and cases differ from Python's. So the port asks
only these tables, which come from the reference itself. They are those of Python 3.11 (Unicode 14).
"""

import json
import sys
import unicodedata
from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np

from merchantguard.data.cleaning.characters import (
    DROPPED,
    JOINING,
    NOT_IN_WORD,
    characters,
    expand,
)
from merchantguard.data.cleaning.spelling import _SHORT
from merchantguard.data.cleaning.text import CLEANING_VERSION
from merchantguard.data.language import _OTHER

_LAST = 0x110000


def tables() -> dict[str, object]:
    """All tables; a range is [first, last] and a run [first, last, value], last included."""
    table, codes = characters(), np.arange(_LAST, dtype=np.uint32)
    kinds, roles = table.kinds(codes).tolist(), table.roles(codes).tolist()
    becomes = {
        f"{code:x}": text
        for code in range(_LAST)
        if kinds[code] != DROPPED and (text := expand(chr(code))) != chr(code)
    }
    return {
        "unicode": unicodedata.unidata_version,
        "cleaning_version": CLEANING_VERSION,
        "dropped": _ranges(lambda code: kinds[code] == DROPPED),
        "joining": _ranges(lambda code: kinds[code] == JOINING),
        "becomes": becomes,
        "roles": [run for run in _runs(roles.__getitem__) if run[2] != NOT_IN_WORD],
        "exact": {f"{code:x}": chr(table.exact[code]) for code in np.flatnonzero(table.exact).tolist()},
        "near": {f"{code:x}": chr(table.near[code]) for code in np.flatnonzero(table.near).tolist()},
        "combining": _ranges(
            lambda code: (
                unicodedata.category(chr(code))[0] == "M"
                and unicodedata.name(chr(code), "").startswith("COMBINING")
            )
        ),
        "word": _ranges(lambda code: chr(code).isalnum()),
        "decimal": _ranges(lambda code: chr(code).isdecimal()),
        "space": _ranges(lambda code: chr(code).isspace()),
        "upper": _ranges(lambda code: chr(code).isupper()),
        "lower": _ranges(lambda code: chr(code).islower() or unicodedata.category(chr(code)) == "Lt"),
        "short_words": _SHORT,
        "other_language_words": _OTHER,
    }


def _runs(value: Callable[[int], int]) -> Iterator[list[int]]:
    for found, codes in groupby(range(_LAST), value):
        run = list(codes)
        yield [run[0], run[-1], found]


def _ranges(holds: Callable[[int], bool]) -> list[list[int]]:
    return [[first, last] for first, last, found in _runs(holds) if found]


if __name__ == "__main__":
    json.dump(tables(), sys.stdout, ensure_ascii=True, separators=(",", ":"))
    sys.stdout.write("\n")

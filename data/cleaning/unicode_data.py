"""Unicode properties from package data: what cleaning does with a character does not depend on the Python that runs it.

`unicode.json` has the general categories of Unicode 14, that of the oldest Python that is supported. Characters that a later
version added are dropped everywhere, as unassigned ones are. What is asked of `unicodedata` beside these tables is
normalisation and names, which never change for characters that are assigned ("Unicode Character Encoding Stability
Policies"). Made by `python -m merchantguard.data.cleaning.unicode_data > data/cleaning/unicode.json` under Python 3.11.
"""

import json
import sys
import unicodedata
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

VERSION = "14.0.0"


@cache
def _categories() -> tuple[list[str], npt.NDArray[np.uint8]]:
    """The categories' names, and for each code point the number of its own."""
    content = json.loads(files(__package__).joinpath("unicode.json").read_text(encoding="ascii"))
    firsts, names = zip(*content["categories"], strict=True)
    known = sorted(set(names))
    numbers = np.array([known.index(name) for name in names], np.uint8)
    return known, np.repeat(numbers, np.diff([*firsts, sys.maxunicode + 1]))


def category(character: str) -> str:
    """General category of a character, "Cn" if Unicode 14 does not have it."""
    names, numbers = _categories()
    return names[numbers[ord(character)]]


def name(character: str) -> str:
    """Name of a character, empty if it has none or Unicode 14 does not have it."""
    return "" if category(character) == "Cn" else unicodedata.name(character, "")


def table() -> str:
    """The content of `unicode.json`: where each run of one category begins.

    :raises RuntimeError: under a Python with other tables.
    """
    if unicodedata.unidata_version != VERSION:
        raise RuntimeError(
            f"this Python has Unicode {unicodedata.unidata_version}; the table is of {VERSION}"
        )
    runs: list[tuple[int, str]] = []
    for code in range(sys.maxunicode + 1):
        found = unicodedata.category(chr(code))
        if not runs or runs[-1][1] != found:
            runs.append((code, found))
    return json.dumps({"version": VERSION, "categories": runs}, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())

import hashlib
import sys
import unicodedata

import pytest

from merchantguard.data.cleaning import unicode_data
from merchantguard.data.cleaning.characters import characters, expand
from merchantguard.data.cleaning.text import clean

# Of every code point: what it becomes, and its role in a word. The same under every Python.
EXPANSIONS = "d3d9e117d73e77928a6adada468a29a4f64dc96904a115619b11f0923ea18b8c"


def digest() -> str:
    import numpy as np

    found = hashlib.sha256()
    for code in range(sys.maxunicode + 1):
        found.update(expand(chr(code)).encode("utf-8", "surrogatepass") + b"\0")
    codes = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    found.update(characters().roles(codes).tobytes() + characters().kinds(codes).tobytes())
    return found.hexdigest()


def test_every_character_is_cleaned_the_same_under_every_python() -> None:
    assert digest() == EXPANSIONS


@pytest.mark.parametrize(
    "later", ["\U00011f02", "\U0001e4d0", "\U00031350", "\U00016d63", "\u1c89", "\ua7cb"]
)
def test_characters_that_a_later_unicode_added_are_dropped(later: str) -> None:
    assert unicode_data.category(later) == "Cn"
    assert unicode_data.name(later) == ""
    assert clean(f"va{later}pe").text == "vape"


@pytest.mark.skipif(unicodedata.unidata_version != unicode_data.VERSION, reason="made under Python 3.11")
def test_the_table_is_what_makes_it() -> None:
    shipped = (
        unicode_data.files(unicode_data.__package__).joinpath("unicode.json").read_text(encoding="ascii")
    )
    assert unicode_data.table() == shipped

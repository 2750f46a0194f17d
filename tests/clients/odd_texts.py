"""Texts on which an implementation in another language goes wrong first: written ones, changed at random."""

import random

from merchantguard.data.behaviour import load_suite
from merchantguard.export.golden import golden_texts

_ALIKE = str.maketrans(
    "aceopxyiAEOPCTBMHK",
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0410\u0415\u041e\u0420\u0421\u0422\u0412\u041c\u041d\u041a",
)
_LEET = str.maketrans("aeiost", "@31057")
_BITS = (
    *(
        "\u200b",
        "\u00ad",
        "\u202e",
        "\ufe0f",
        "\u0301",
        "\u0336\u0301\u0489",
        "\u0301" * 9,
        "\u1ab0\u0f71\u0f72",
    ),
    *(
        "\ud800",
        "\udfff",
        "\udc00x",
        "\U0001f600",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\U0001f1fa\U0001f1f8",
    ),
    *(
        "\uff21\uff22\uff23",
        "\ufdfa",
        "\u1100\u1161\u11a8",
        "\uac00\u11a8",
        "\u0130\u0131\u017f\u212a",
        "\u03a3\u03a3",
        "\u1e9b\u0323",
    ),
    *(
        "[SEP]",
        "[CLS]",
        " [PAD] ",
        "##ing",
        "\x00",
        "\x85",
        "\u2028",
        "\u1680",
        "\r\n",
        "\r",
        "\t\t",
        "\x1c",
        "\u3000",
    ),
    *(
        "\u0663\u0664",
        "\u00bd",
        "\u2167",
        "\u4e2d\u6587\u5b57",
        "\u3042\u3044",
        "\u05e9\u05c1\u05bc\u05b8",
        "\u1019\u103c\u1014\u103a",
    ),
    *(
        "\u041f\u0440\u0438\u0432\u0435\u0442",
        "\u0395\u03bb\u03bb\u03ac\u03b4\u03b1",
        "\u00b5g",
        "\U0001d400\U0001d7d8",
        "\U0001f150\U0001f170",
    ),
    *(
        "\ue000",
        "\U000e0041",
        "\U0010ffff",
        "\u0378",
        "\u2026",
        "\u2022 ",
        " | ",
        "\u00b4",
        "\u2800",
        "\u0149",
        "\u01c4",
    ),
    *(
        "v a p e",
        "g.a.m.b.l.e",
        "p1ll5",
        "fent anyl",
        "c@sh",
        "US$5off",
        "MP3s",
        "a@b.co",
        "cas-ino",
        "x~~y",
        "l33t!!",
        "R$!c",
    ),
)


def odd_texts(count: int, seed: int = 18) -> list[str]:
    """So many texts, always the same for a seed."""
    chance = random.Random(seed)
    suite = load_suite()
    base = [each.text for each in (*suite.offers, *suite.ordinary)] + golden_texts()
    texts = [_odd(chance, base) for _ in range(count)]
    return [*golden_texts(), *texts][:count]


def junk(characters: int, seed: int = 18) -> str:
    """So many characters of anything, most of them of no use to anybody."""
    chance = random.Random(seed)
    return "".join(_any(chance) for _ in range(characters))


def _any(chance: random.Random) -> str:
    kind = chance.randrange(6)
    if kind < 2:
        return chr(chance.randrange(0x20, 0x7F))
    if kind == 2:
        return chance.choice(" \n.-4@$1!")
    if kind == 3:
        return chr(chance.randrange(0x300, 0x370))
    # High surrogates are left out: before a low one they are another character once written as UTF-16.
    code = chance.randrange(0xD800 if kind == 4 else 0x110000)
    return chr(code) if not 0xD800 <= code < 0xDC00 else "\udc00"


def _odd(chance: random.Random, base: list[str]) -> str:
    text = chance.choice(base)
    text = (
        " ".join(chance.choice(base) for _ in range(chance.randrange(1, 4)))
        if chance.random() < 0.2
        else text
    )
    words = text.split(" ")[:400]
    for _ in range(chance.randrange(8)):
        at = chance.randrange(len(words))
        words[at] = _changed(chance, words[at])
    text = " ".join(words)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(_BITS) + text[at:]
    # What two lone surrogates in a row make in UTF-16 is another text.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _changed(chance: random.Random, word: str) -> str:
    kind = chance.randrange(7)
    if kind == 0:
        return word.translate(_ALIKE)
    if kind == 1:
        return word.translate(_LEET)
    if kind == 2:
        return chance.choice(" .-_*/|~").join(word)
    if kind == 3:
        return chance.choice(_BITS).join((word[: len(word) // 2], word[len(word) // 2 :]))
    if kind == 4:
        return "".join(c + "\u0301\u0323" for c in word)
    if kind == 5:
        return word.upper() + "!"
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in word)

"""Signals of text that addresses its reader: what they find, and that they leave ordinary pages alone."""

import json
from pathlib import Path

import pytest

from merchantguard.data.cleaning.text import clean
from merchantguard.data.shipped import corpus_paths
from merchantguard.operate.adjudicate.injection.hidden import hidden_text
from merchantguard.operate.adjudicate.injection.red_team import FAMILIES, attacks
from merchantguard.operate.adjudicate.injection.signal import injection_signals


def seen(text: str, hidden: str = "") -> bool:
    return bool(injection_signals(text, clean(text).text, hidden))


def test_the_sets_are_large_and_share_no_attack() -> None:
    development, test = attacks("development"), attacks("test")
    assert len(development) >= 200
    assert len(test) >= 200
    assert {attack.family for attack in test} == set(FAMILIES)
    assert not {(a.text, a.hidden) for a in development} & {(a.text, a.hidden) for a in test}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_attacks_of_the_development_set_give_a_signal(family: str) -> None:
    missed = [
        a
        for a in attacks("development")
        if a.family == family and not seen(f"Shop\n{a.text}\nOpen daily.", a.hidden)
    ]
    assert not missed


def test_most_attacks_of_the_other_generators_give_a_signal() -> None:
    found = [seen(f"Shop\n{a.text}\nOpen daily.", a.hidden) for a in attacks("test")]
    assert sum(found) / len(found) >= 0.8


def test_compliant_pages_hardly_ever_give_one() -> None:
    rows = [json.loads(line) for path in corpus_paths() for line in Path(path).read_text().splitlines()]
    compliant = [row["text"] for row in rows if not row["labels"]]
    assert len(compliant) > 500
    assert sum(map(seen, compliant)) / len(compliant) <= 0.01


@pytest.mark.parametrize(
    "element",
    ['<p style="color:#FFF">x</p>', '<p style="color: white; background:#ffffff">x</p>', '<p style="display:none">x</p>', "<p hidden>x</p>",
     '<p style="font-size:0">x</p>', '<p style="position:absolute;left:-9999px">x</p>', '<font color="white">x</font>', "<!-- x -->"],
)  # fmt: skip
def test_text_that_a_page_hides_is_found(element: str) -> None:
    assert hidden_text(f"<body><p>Welcome</p>{element}</body>") == "x"


@pytest.mark.parametrize(
    "element", ['<p style="color:#000">x</p>', '<p style="color:#fff;background:#000">x</p>', "<p>x</p>"]
)
def test_text_that_is_seen_is_not(element: str) -> None:
    assert hidden_text(f"<body>{element}</body>") == ""

"""The attacks of the evasion benchmark: they change what they should, and cleaning undoes what it claims to."""

import random
from pathlib import Path

import evasion_attacks as attacks
import numpy as np
import pytest
from evasion import Measure, attacked_sets, without_cleaning

from merchantguard.core.decisions import any_violation
from merchantguard.data.cleaning.html import html_to_text
from merchantguard.data.cleaning.text import clean
from merchantguard.data.records.record import parse_record
from merchantguard.data.taxonomy import load_taxonomy
from merchantguard.data.windows import WindowTokenizer
from merchantguard.serve.preprocess import encode_texts

TEXT = "Buy crimson lanterns here\nShipped overnight with tracking and without questions"


@pytest.mark.parametrize("name", attacks.CHARACTER_ATTACKS)
def test_an_attack_changes_every_quoted_word_and_is_the_same_every_time(name: str) -> None:
    attack = attacks.CHARACTER_ATTACKS[name]
    quote = "Shipped overnight with tracking"
    found = attacks.attack_text(TEXT, [quote], attack, seed="s")
    assert found == attacks.attack_text(TEXT, [quote], attack, seed="s")
    changed = [word for word in quote.split() if word not in found]
    assert len(changed) >= 3


@pytest.mark.parametrize("name", ["homoglyphs", "zero width", "spacing"])
def test_cleaning_undoes(name: str) -> None:
    attack = attacks.CHARACTER_ATTACKS[name]
    words = ["crimson", "lanterns", "overnight", "tracking", "questions"]
    read = [clean(attack(word, random.Random(seed))).text for seed, word in enumerate(words)]
    # A dotless i is a letter of Turkish: it stays.
    assert [text.casefold().replace("\u0131", "i") for text in read] == words


def test_a_page_shows_its_words_but_for_unseen_letters() -> None:
    page = attacks.attack_page(TEXT, TEXT.split("\n"), seed="s")
    assert "crimson" not in page
    assert "without" in clean(html_to_text(page)).text


def test_euphemisms_take_the_longest_term() -> None:
    terms = {"magic": ["x"], "magic mushrooms": ["golden teachers"]}
    assert attacks.with_euphemisms("Magic mushrooms!", terms, seed="s") == "golden teachers!"
    assert all(attacks.load_euphemisms().values())


def test_only_violating_pages_are_attacked_and_recall_is_at_a_limit_of_the_compliant() -> None:
    taxonomy = load_taxonomy()
    rows = [{"id": str(n), "text": TEXT, "labels": [taxonomy.ids[0]] if n < 5 else []} for n in range(15)]
    records = [parse_record(row, taxonomy, row_number=1) for row in rows]
    for texts in attacked_sets(records, seed=0).values():
        assert texts[5:] == [TEXT] * 10
    clean_scores = np.zeros((15, len(taxonomy)), np.float32)
    clean_scores[:5, 0] = 0.9
    judge = Measure(records, taxonomy, clean_scores, samples=20)
    attacked = clean_scores.copy()
    attacked[0, 0] = 0.0
    assert any_violation(clean_scores)[0] == pytest.approx(0.9)
    assert judge.recall(clean_scores, np.arange(15)) == 1.0
    assert judge.lost(attacked)["recall"]["point"] == pytest.approx(0.2)
    assert judge.lost(clean_scores)["average_precision"]["point"] == 0.0


def test_without_cleaning_a_scorer_reads_texts_as_they_are(tiny_base: Path) -> None:
    tokenizer = WindowTokenizer.from_file(
        tiny_base / "tokenizer.json", window_tokens=32, stride_tokens=8, max_windows=4
    )
    hidden = "crim\u200bson"
    with without_cleaning():
        assert encode_texts([hidden], tokenizer)[0].clean.text == hidden
    assert encode_texts([hidden], tokenizer)[0].clean.text == "crimson"

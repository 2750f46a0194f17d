"""Near-duplicates: who must be grouped, who must not, and that order and chance do not matter."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.data.records.readers import read_records
from merchantguard.data.shipped import corpus_paths
from merchantguard.data.splitting.near_duplicates import (
    CANDIDATE_RECALL,
    PERMUTATIONS,
    band_count,
    jaccard,
    near_duplicate_groups,
    shingles,
    words,
)

WORDS = [f"word{number}" for number in range(400)]


def _text(seed: int, length: int = 80) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def _partition(groups: np.ndarray, names: list[int]) -> set[frozenset[int]]:
    found: dict[int, set[int]] = {}
    for name, group in zip(names, groups, strict=True):
        found.setdefault(int(group), set()).add(name)
    return {frozenset(members) for members in found.values()}


def test_case_width_and_invisible_characters_do_not_matter():
    texts = [
        "Fine Black TEA, loose!",
        "fine  black\ntea loose",
        "fi\u200bne bl\u00adack \uff54\uff45\uff41 loose",
        "salt",
    ]
    assert near_duplicate_groups(texts).tolist() == [0, 0, 0, 1]


def test_copy_with_a_few_words_changed_is_found_and_a_stranger_is_not():
    copy = _text(1).split()
    copy[10] = copy[60] = "other"
    groups = near_duplicate_groups([_text(1), _text(2), " ".join(copy), _text(1) + " last"])
    assert groups.tolist() == [0, 1, 0, 0]


def test_groups_join_through_a_text_between():
    long = _text(3, 100).split()
    texts = [" ".join(long[start : start + 70]) for start in (0, 10, 20, 30)]
    first, last = shingles(words(texts[0])), shingles(words(texts[-1]))
    assert jaccard(first, last) < 0.6
    assert near_duplicate_groups(texts, threshold=0.7).tolist() == [0, 0, 0, 0]


def test_short_and_wordless_texts():
    texts = ["", "tea", "Tea!", "black tea", "tea black", "!!!", "???", "!!!", ""]
    assert near_duplicate_groups(texts).tolist() == [0, 1, 1, 2, 3, 4, 5, 4, 0]
    assert near_duplicate_groups([]).tolist() == []
    assert near_duplicate_groups([]).dtype == np.int64


def test_scripts_without_spaces_are_compared_letter_by_letter():
    text = "当店では紅茶と緑茶を販売しております。全国に送料無料でお届けします。"
    assert near_duplicate_groups(
        [text, text.replace("紅茶", "煎茶"), "本日は休業です。"], threshold=0.6
    ).tolist() == [0, 0, 1]


def test_lone_surrogates_and_nul_are_accepted():
    assert near_duplicate_groups(["tea \ud800 \0 shop now", "tea \ud800 \0 shop now", "salt"]).tolist() == [
        0,
        0,
        1,
    ]


def test_many_equal_texts_are_cheap():
    assert near_duplicate_groups([_text(1)] * 20_000).max() == 0


@pytest.mark.parametrize("threshold", [0, -0.1, 1.5])
def test_threshold_out_of_range(threshold):
    with pytest.raises(ValueError, match="threshold"):
        near_duplicate_groups(["a"], threshold=threshold)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_give_the_recall_they_promise(threshold):
    bands = band_count(threshold, PERMUTATIONS)
    assert PERMUTATIONS % bands == 0
    assert 1 - (1 - threshold ** (PERMUTATIONS // bands)) ** bands >= CANDIDATE_RECALL


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    changes=st.lists(st.integers(0, 25), min_size=4, max_size=10),
    threshold=st.sampled_from([0.5, 0.7]),
)
def test_groups_are_those_of_exact_comparison_in_any_order(seed, changes, threshold):
    """Compare with all pairs, leaving alone the cases where a pair so close to the threshold may be missed."""
    generator = random.Random(seed)
    texts = []
    for number, count in enumerate(changes):
        tokens = _text(seed + number % 3, 60).split()
        for place in generator.sample(range(60), count):
            tokens[place] = generator.choice(WORDS)
        texts.append(" ".join(tokens))
    names = list(range(len(texts)))
    found = _partition(near_duplicate_groups(texts, threshold=threshold), names)
    sets = [shingles(words(text)) for text in texts]
    lenient, strict = (_exact(sets, limit) for limit in (threshold, min(1.0, threshold + 0.1)))
    assert all(any(group <= whole for whole in lenient) for group in found)
    assert all(any(group <= whole for whole in found) for group in strict)
    generator.shuffle(names)
    shuffled = near_duplicate_groups([texts[name] for name in names], threshold=threshold)
    assert _partition(shuffled, names) == found


def _exact(sets: list[frozenset[str]], threshold: float) -> set[frozenset[int]]:
    groups = [{number} for number in range(len(sets))]
    for first in range(len(sets)):
        for second in range(first):
            if jaccard(sets[first], sets[second]) >= threshold and groups[first] is not groups[second]:
                groups[first] |= groups[second]
                for member in groups[second]:
                    groups[member] = groups[first]
    return {frozenset(group) for group in groups}


def test_shipped_corpus_has_no_near_duplicates():
    texts = [record.text for record in read_records(corpus_paths(), None).records]
    assert len(set(near_duplicate_groups(texts, threshold=0.7).tolist())) == len(texts)
    copies = [text + " Call us today." for text in texts[:50]]
    groups = near_duplicate_groups(texts + copies, threshold=0.5)
    assert (groups[len(texts) :] == groups[:50]).mean() > 0.95

import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.serve import EvidenceOptions, Scorer

from .conftest import FILLER, TEXTS, same


def test_findings_and_decisions(scorer: Scorer) -> None:
    assessment = scorer.assess("A walrus comes with each order. We sell crimson goods.")
    assert assessment.decision == "block"
    found = {finding.policy: finding for finding in assessment.findings}
    assert found.keys() == {"alpha", "beta"}
    assert found["alpha"].decision == "block"
    assert found["beta"].decision == "review"  # it has no certified block threshold
    assert assessment.bundle == "tiny@1"
    assert assessment.probabilities.dtype == np.float32
    assert assessment.probabilities.shape == (3,)
    probabilities = [finding.probability for finding in assessment.findings]
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_text_below_the_limit_of_the_whole_goes_to_no_review(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    walrus = "A walrus comes with each order."
    lenient = Scorer.load(make_bundle(tmp_path / "a", any_violation={"review": 0.9}), threads=1)
    strict = Scorer.load(make_bundle(tmp_path / "b", any_violation={"review": 0.9999}), threads=1)
    assert (lenient.assess(walrus).decision, strict.assess(walrus).decision) == ("review", "clear")
    assert strict.assess(walrus).findings == ()
    assert 0.9 < strict.assess(walrus).any_violation < 0.9999
    # What a certified block threshold blocks is blocked all the same.
    blocked = strict.assess("We sell crimson goods.")
    assert blocked.decision == "block"
    assert [finding.policy for finding in blocked.findings] == ["alpha"]


def test_an_empty_text_is_assessed(scorer: Scorer) -> None:
    for text in ("", " \n ", "\x00\u200b"):
        assessment = scorer.assess(text)
        assert (assessment.decision, assessment.findings, assessment.windows) == ("clear", (), 1)
        assert not assessment.truncated


def test_spans_are_the_sentences_that_carry_the_finding(scorer: Scorer) -> None:
    text = "Welcome!\u200b  " + FILLER + "A w\u0430lrus\tcomes with each order. " + FILLER * 9
    [finding] = scorer.assess(text).findings
    assert finding.policy == "beta"
    [span] = finding.spans
    assert span.text == text[span.start : span.end] == "A w\u0430lrus\tcomes with each order."
    start, end = finding.windows[0]
    assert start <= span.start < span.end <= end < len(text)


def test_windows_name_every_place_that_shows_the_policy(scorer: Scorer) -> None:
    text = "The teapot is made by hand.\n" + FILLER * 6 + "The teapot is made by hand."
    [finding] = scorer.assess(text).findings
    assert len(finding.windows) == 2
    for start, end in finding.windows:
        assert "teapot" in text[start:end]


def test_a_long_text_is_cut_and_says_so(scorer: Scorer) -> None:
    assert scorer.assess(FILLER * 3).truncated is False
    long = scorer.assess(FILLER * 200 + "crimson")
    assert (long.truncated, long.windows, long.decision) == (True, 8, "clear")


@pytest.mark.parametrize("batch_tokens", [1, 64, 4096])
@pytest.mark.parametrize("texts_at_once", [1, 3, 256])
def test_many_are_assessed_as_one_by_one_in_order(
    scorer: Scorer, batch_tokens: int, texts_at_once: int
) -> None:
    many = scorer.assess_many(TEXTS * 2, batch_tokens=batch_tokens, texts_at_once=texts_at_once)
    for assessment, text in itertools.zip_longest(many, TEXTS * 2):
        assert same(assessment, scorer.assess(text))


def test_attention_pooling(attention_bundle_path: Path, scorer: Scorer) -> None:
    attention = Scorer.load(attention_bundle_path, threads=1)
    one_window = "We sell crimson goods."
    assert attention.assess(one_window).probabilities == pytest.approx(
        scorer.assess(one_window).probabilities
    )
    # The scores are half the logits, so windows with the word weigh e**4 times as much as those without.
    text = FILLER * 8 + "We sell crimson goods."
    plain, pooled = scorer.assess(text), attention.assess(text)
    assert pooled.findings[0].policy == "alpha"
    assert 0.5 < pooled.probabilities[0] < plain.probabilities[0]


def test_an_endless_iterator_is_assessed_lazily_and_in_bounded_memory(scorer: Scorer) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for number in itertools.count():
            read += 1
            yield f"{FILLER * 20} number {number}"

    assessments = scorer.assess_many(endless(), texts_at_once=8, remember=32)
    for _ in range(16):
        next(assessments)
    tracemalloc.start()
    for _ in range(64):
        next(assessments)
    after_64 = tracemalloc.get_traced_memory()[1]
    for _ in range(256):
        next(assessments)
    assert tracemalloc.get_traced_memory()[1] < 1.5 * after_64
    tracemalloc.stop()
    assert read <= 16 + 64 + 256 + 8 + 8 + 1  # one chunk ahead, and the item that ends a chunk


def test_any_violation_is_a_probability_of_its_own(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    plain = Scorer.load(make_bundle(tmp_path / "a"), threads=1)
    some = {"review": 0.0, "scale": 0.5, "bias": -1.0, "length": 0.25}
    shift = {"stated": 0.02, "calibration": 0.5}
    stated = Scorer.load(make_bundle(tmp_path / "b", any_violation=some, prevalence=shift), threads=1)
    for text in TEXTS:
        before, after = plain.assess(text), stated.assess(text)
        independent = 1 - np.prod(1 - before.probabilities.astype(float))
        assert before.any_violation == pytest.approx(independent, rel=1e-5)
        assert after.any_violation == np.float32(after.any_violation) >= after.probabilities.max()
        assert after.any_violation < before.any_violation


def test_a_block_says_what_its_certificate_is_about(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "a")
    policies = json.loads((folder / "bundle.json").read_text())["policies"]
    policies[0]["thresholds"]["block_certificate"] = {"scope": "pooled"}
    scorer = Scorer.load(make_bundle(tmp_path / "b", policies=policies), threads=1)
    assert [each.block_scope for each in scorer.policies] == ["pooled", None, "policy"]
    found = {
        each.policy: each
        for text in (*TEXTS, "The teapot is made by hand.")
        for each in scorer.assess(text).findings
    }
    assert {name: each.certificate for name, each in found.items()} == {
        "alpha": "pooled",
        "beta": None,
        "gamma": "policy",
    }


def test_threads_share_a_scorer(scorer: Scorer) -> None:
    expected = [scorer.assess(text) for text in TEXTS]

    def work(number: int) -> bool:
        order = [(number + step) % len(TEXTS) for step in range(4 * len(TEXTS))]
        alone = all(same(scorer.assess(TEXTS[row]), expected[row]) for row in order)
        many = scorer.assess_many((TEXTS[row] for row in order), texts_at_once=4)
        return alone and all(same(found, expected[row]) for found, row in zip(many, order, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16)))


@pytest.mark.parametrize("wrong", [None, b"text", 3, ["text"]])
def test_what_is_not_a_text_is_named(scorer: Scorer, wrong: Any) -> None:
    with pytest.raises(TypeError, match="text must be a str, not"):
        scorer.assess(wrong)
    assessments = scorer.assess_many(["a", "b", wrong])
    assert [next(assessments).decision, next(assessments).decision] == ["clear", "clear"]
    with pytest.raises(TypeError, match=rf"texts\[2\] must be a str, not {type(wrong).__name__}"):
        next(assessments)


def test_one_text_is_not_taken_for_many(scorer: Scorer) -> None:
    with pytest.raises(TypeError, match="see assess"):
        scorer.assess_many("crimson")
    with pytest.raises(ValueError, match="batch_tokens 0"):
        scorer.assess_many([], batch_tokens=0)


def test_evidence_can_be_turned_off(bundle_path: Path) -> None:
    scorer = Scorer.load(bundle_path, threads=1, evidence=EvidenceOptions(spans=0))
    assert scorer.assess("crimson").findings[0].spans == ()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["crimson ", "walrus", "\u200b", "\ud800", "\n", ". ", "\x00", "é\u0301\u0301", "ﬁne ", "木"]
        )
        | st.text(max_size=5),
        max_size=40,
    )
)
def test_spans_point_into_the_callers_text(scorer: Scorer, pieces: list[str]) -> None:
    text = "".join(pieces)
    for finding in scorer.assess(text).findings:
        places = sorted((span.start, span.end) for span in finding.spans)
        assert places
        assert len(places) <= 3
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
        for span in finding.spans:
            assert 0 <= span.start < span.end <= len(text)
            assert span.text == text[span.start : span.end]
        for start, end in finding.windows:
            assert 0 <= start < end <= len(text)


@pytest.mark.parametrize(
    "unit", ["crimson", "crimson ", "crimson.", "crimson\n", "\u0301", "ｃｒｉｍｓｏｎ "]
)
def test_a_hostile_megabyte_is_assessed(scorer: Scorer, unit: str) -> None:
    assessment = scorer.assess("crimson " + unit * (1_000_000 // len(unit)))
    assert assessment.decision == "block"
    for span in assessment.findings[0].spans:
        assert span.end - span.start <= 2000


def test_spans_are_the_sentences_whose_tokens_add(explained_bundle_path: Path) -> None:
    scorer = Scorer.load(explained_bundle_path, threads=1)
    text = FILLER * 3 + "The teapot is made by hand.\n" + FILLER + "We sell crimson goods."
    found = {finding.policy: finding.spans[0].text for finding in scorer.assess(text).findings}
    assert found == {"alpha": "We sell crimson goods.", "gamma": "The teapot is made by hand."}
    assert scorer.assess("crimson").findings[0].spans[0].text == "crimson"
    many = list(scorer.assess_many([text, "", text + "!", "walrus"], batch_tokens=64))
    assert {f.policy: f.spans[0].text for f in many[0].findings} == found


def test_each_window_that_shows_a_policy_gives_a_span(explained_bundle_path: Path) -> None:
    scorer = Scorer.load(explained_bundle_path, threads=1)
    text = "We sell crimson goods.\n" + FILLER * 3 + "A crimson order is near.\n" + FILLER
    [finding] = scorer.assess(text).findings
    assert len(finding.windows) >= 2
    # A window may end inside a sentence.
    assert sorted(span.text[:12] for span in finding.spans[:2]) == ["A crimson or", "We sell crim"]
    places = sorted((span.start, span.end) for span in finding.spans)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
    few = Scorer.load(explained_bundle_path, threads=1, evidence=EvidenceOptions(spans=1))
    assert few.assess(text).findings[0].spans == finding.spans[:1]

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.core.errors import BundleError
from merchantguard.serve import MicroBatcher, Scorer
from merchantguard.serve.warnings import LANGUAGE, THIN_PAGE, TRUNCATED, is_thin

from .conftest import FILLER

GERMAN = "Wir verkaufen Zigaretten und Schnaps ohne Altersnachweis, Versand am selben Werktag."


@pytest.fixture(scope="module")
def english(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return Scorer.load(make_bundle(tmp_path_factory.mktemp("english") / "b", languages=["en"]), threads=1)


def test_a_clear_text_in_another_language_goes_to_review_without_a_finding(english: Scorer) -> None:
    found = english.assess(GERMAN)
    assert (found.decision, found.findings, found.warnings) == ("review", (), (LANGUAGE,))


def test_nothing_is_blocked_in_another_language(english: Scorer) -> None:
    found = english.assess(f"{GERMAN} crimson")
    assert found.decision == "review"
    assert [(each.policy, each.decision) for each in found.findings] == [("alpha", "review")]
    assert found.findings[0].certificate is None
    assert english.assess("We sell crimson goods in every town.").decision == "block"


def test_a_bundle_that_names_no_language_or_several_checks_none(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    for name, changes in {"none": {}, "empty": {"languages": []}, "two": {"languages": ["en", "de"]}}.items():
        scorer = Scorer.load(make_bundle(tmp_path / name, **changes), threads=1)
        assert scorer.assess(GERMAN).warnings == (), name
        assert scorer.assess(GERMAN).decision == "clear", name


@pytest.mark.parametrize("wrong", ["en", None, ["english"], [3], {"en": True}, ["EN"]])
def test_languages_of_another_form_are_refused(
    make_bundle: Callable[..., Path], tmp_path: Path, wrong: object
) -> None:
    with pytest.raises(BundleError, match="languages"):
        Scorer.load(make_bundle(tmp_path / "b", languages=wrong), threads=1)


def test_long_and_thin_texts(english: Scorer) -> None:
    assert english.assess(FILLER * 40).warnings == (TRUNCATED,)
    for text in ("", "Kiln Lane\nLoading..."):
        assert english.assess(text).warnings == (THIN_PAGE,)
        assert english.assess(text).decision == "clear"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Shop",
        "Kiln Lane\nLoading...",
        "You need to enable JavaScript to run this app.",
        "This site requires JavaScript. Kiln Lane Ltd, 4 Kiln Lane",
        "Just a moment... Checking your browser before you go on",
    ],
)
def test_thin_pages(text: str) -> None:
    assert is_thin(text)


@pytest.mark.parametrize(
    "text",
    [
        "Imported Sports Sipper 750 ml Water Bottle",
        "Loading dock equipment and pallets for sale",
        "Eloquent JavaScript, third edition, paperback",
        "Loading... " + "walnut shelf in the hall " * 20,
    ],
)
def test_pages_that_say_enough(text: str) -> None:
    assert not is_thin(text)


@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=[]), max_size=300))
def test_any_text_gets_one_of_the_decisions_that_its_warnings_allow(english: Scorer, text: str) -> None:
    found = english.assess(text)
    assert set(found.warnings) <= {LANGUAGE, THIN_PAGE, TRUNCATED}
    assert found.truncated == (TRUNCATED in found.warnings)
    if LANGUAGE in found.warnings:
        assert found.decision == "review"
        assert {each.decision for each in found.findings} <= {"review"}


def test_every_way_to_score_says_the_same(english: Scorer) -> None:
    texts = [GERMAN, "Loading...", FILLER * 40, "Call us or write a letter.", GERMAN]
    expected = [(each.decision, each.warnings) for each in english.assess_many(texts)]
    assert expected == [(each.decision, each.warnings) for each in map(english.assess, texts)]
    with MicroBatcher(english) as batcher:
        found = [future.result(60) for future in [batcher.submit(text) for text in texts]]
    assert expected == [(each.decision, each.warnings) for each in found]


def test_rows_of_results_have_the_warnings(english: Scorer, tmp_path: Path) -> None:
    from merchantguard.cli import main

    (tmp_path / "in.jsonl").write_text(json.dumps({"id": "a", "text": GERMAN}) + "\n")
    for name in ("out.jsonl", "out.parquet"):
        assert (
            main(
                ["score", str(english.bundle.path), str(tmp_path / "in.jsonl"), "--out", str(tmp_path / name)]
            )
            == 0
        )
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert (row["decision"], row["warnings"]) == ("review", ["language"])
    parquet = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "out.parquet")
    assert parquet["warnings"].to_pylist() == [["language"]]

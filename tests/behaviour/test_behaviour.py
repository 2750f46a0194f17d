import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.core.decisions import Decision
from merchantguard.core.errors import RecordError
from merchantguard.data.behaviour import Behaviour, Share, TextScores, behaviour, load_suite
from merchantguard.data.behaviour.suite import DirectionPair, Frame, Offer, OrdinaryLine, Suite
from merchantguard.data.behaviour.variations import VARIATIONS, diluted, with_typos
from merchantguard.data.taxonomy import load_taxonomy

POLICIES = ("alpha", "beta")
OFFERS = tuple(
    Offer(f"{policy}-{number}", f"We sell {word} number {number} for $5", policy)
    for policy, word in (("alpha", "crimson"), ("beta", "walrus"))
    for number in range(4)
)
ORDINARY = tuple(
    OrdinaryLine(f"o{number}", f"Our shop sells teapots, model {number}", "shop") for number in range(24)
)
SUITE = Suite(
    offers=OFFERS,
    ordinary=(*ORDINARY, OrdinaryLine("near", "A harbour in crimson light", "near")),
    frames=(Frame("f1", "plain", "Hello.\n", "\nBye."), Frame("f2", "muffled", "Quiet please.\n", "")),
    direction=(DirectionPair("d1", "alpha", "crimson goods", "copper goods"),),
)


class WordModel:
    """Finds the words, unless the text asks for quiet; each further sentence takes a tenth of the probability."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: Sequence[str]) -> TextScores:
        self.texts += texts
        scores = np.array([self._row(text) for text in texts], dtype=np.float32)
        decisions: list[Decision] = ["review" if row.max() >= 0.5 else "clear" for row in scores]
        return TextScores(scores, decisions)

    def _row(self, text: str) -> list[float]:
        quiet = "quiet" in text.lower()
        fade = 0.9 ** text.count(". ")
        return [0.0 if quiet else 0.9 * fade * (word in text.lower()) for word in ("crimson", "walrus")]


def _tested(suite: Suite = SUITE, *, every: int = 1) -> Behaviour:
    return behaviour(WordModel(), POLICIES, suite, every=every)


def test_shipped_texts_are_those_that_the_readme_counts() -> None:
    suite = load_suite()
    policies = set(load_taxonomy().ids)
    assert Counter(offer.policy for offer in suite.offers) == dict.fromkeys(policies, 20)
    assert Counter(pair.policy for pair in suite.direction) == dict.fromkeys(policies, 6)
    assert (len(suite.ordinary), len(suite.frames)) == (400, 24)
    assert sum(line.kind == "near" for line in suite.ordinary) == 60
    assert set(Counter(frame.kind for frame in suite.frames).values()) == {3}
    for name, rows in {
        "offers": suite.offers,
        "ordinary": suite.ordinary,
        "direction": suite.direction,
    }.items():
        assert len({row.id for row in rows}) == len(rows), name


def test_frames_stand_on_lines_of_their_own() -> None:
    for frame in load_suite().frames:
        assert frame.before == "" or frame.before.endswith("\n"), frame.id
        assert frame.after == "" or frame.after.startswith("\n"), frame.id
        assert "the line" in frame.around("the line").split("\n"), frame.id


def test_figures_of_a_known_model() -> None:
    found = _tested()
    assert found.found == Share(8, 8)
    assert found.ranked_first == Share(8, 8)
    assert found.to_review == Share(1, 25)
    assert found.suspected == ("near",)
    assert found.framed == {"plain": Share(8, 8), "muffled": Share(0, 8)}
    assert found.worst_frame == "muffled"
    assert found.unchanged["upper case"] == Share(33, 33)
    assert found.unchanged["other currency"] == Share(8, 8)
    assert found.ordered == {"alpha": Share(1, 1)}
    assert (found.pairs_found, found.pairs_passed) == (Share(1, 1), Share(1, 1))
    assert found.dilution is not None
    assert found.dilution.offers == 4
    assert found.dilution.median == pytest.approx(0.9**20, rel=1e-4)
    assert found.dilution.kept == 0


def test_every_text_is_scored_once() -> None:
    model = WordModel()
    behaviour(model, POLICIES, SUITE, every=2)
    assert len(model.texts) == len(set(model.texts))


def test_policies_that_the_model_lacks_are_reported() -> None:
    found = behaviour(lambda texts: TextScores(WordModel()(texts).probabilities[:, :1], ["clear"] * len(texts)),
                      ["alpha"], SUITE)  # fmt: skip
    assert found.unknown_policies == ("beta",)
    assert found.offers.keys() == {"alpha"}


@pytest.mark.parametrize("part", ["offers", "ordinary", "frames", "direction"])
def test_any_part_may_be_missing_or_alone(part: str) -> None:
    alone = Suite(**{part: getattr(SUITE, part)})
    assert isinstance(_tested(alone).table(), str)
    rest = {
        name: getattr(SUITE, name) for name in ("offers", "ordinary", "frames", "direction") if name != part
    }
    assert json.loads(json.dumps(_tested(Suite(**rest)).to_json(), allow_nan=False))


def test_the_table_names_the_worst() -> None:
    table = _tested().table()
    assert "muffled" in table
    assert "12.1 %" not in table
    assert "offers found: 100.0 % (8 of 8)" in _tested().summary()
    assert "4.0 % (1 of 25)" in _tested().summary()


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "offers.jsonl").write_text('{"text": "We sell crimson", "labels": ["alpha"]}\n\n')
    suite = load_suite(tmp_path)
    assert suite.offers[0].policy == "alpha"
    assert suite.offers[0].id.endswith("offers.jsonl:1")
    assert suite.ordinary == suite.frames == suite.direction == ()


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        "null",
        "[" * 100_000,
        '{"labels": ["alpha"]}',
        '{"text": "", "labels": ["alpha"]}',
        '{"text": 3, "labels": ["alpha"]}',
        '{"text": "a", "labels": []}',
        '{"text": "a", "labels": "alpha"}',
        '{"text": "a", "labels": ["alpha", "beta"]}',
        '{"text": "a", "labels": [["alpha"]]}',
        '{"id": 7, "text": "a", "labels": ["alpha"]}',
    ],
)
def test_a_faulty_row_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "offers.jsonl").write_text('{"text": "fine", "labels": ["alpha"]}\n' + line)
    with pytest.raises(RecordError, match=r"offers\.jsonl:2"):
        _ = load_suite(tmp_path).offers[1].id


def test_a_folder_without_a_suite_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RecordError, match="no text to test with"):
            load_suite(folder)
    (tmp_path / "offers.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(RecordError, match="cannot be read"):
        load_suite(tmp_path)


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=200))
def test_any_text_can_be_varied(text: str) -> None:
    assert with_typos(text) == with_typos(text)
    for vary in VARIATIONS.values():
        assert isinstance(vary(text), str)
    assert text.strip() in diluted(text, ["One.", "Two"])


@given(st.from_regex(r"[A-Za-z]{5,12}", fullmatch=True))
def test_a_typing_error_keeps_the_ends_of_a_word(word: str) -> None:
    typed = with_typos(word)
    assert typed[0] == word[0]
    assert abs(len(typed) - len(word)) <= 1


def test_a_model_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        behaviour(lambda texts: TextScores(np.zeros((1, 2), np.float32), ["clear"]), POLICIES, SUITE)
    with pytest.raises(ValueError, match="every"):
        behaviour(WordModel(), POLICIES, SUITE, every=0)

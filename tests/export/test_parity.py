import numpy as np
import pytest

from merchantguard.core.errors import ParityError
from merchantguard.export.parity import (
    ATTRIBUTION_TOLERANCE,
    AttributedBatch,
    compare_attribution,
    compare_scores,
    parity_cases,
)
from merchantguard.serve.assessment import Assessment, Finding
from merchantguard.serve.engine.onnx_model import Outputs


class Fixed:
    """A scorer that gives every text the same assessment."""

    def __init__(self, probability: float, decision: str = "clear") -> None:
        findings = () if decision == "clear" else (Finding("alpha", probability, decision),)  # type: ignore[arg-type]
        probabilities = np.array([probability], dtype=np.float32)
        self.assessment = Assessment(decision, probabilities, probability, findings, 2, False, "x@1")  # type: ignore[arg-type]

    def assess_many(self, texts: list[str]) -> list[Assessment]:
        return [self.assessment for _ in texts]


CASES = {"ragged batches": [["a", "b"]], "empty text": [[""]]}


def compare(expected: Fixed, found: Fixed) -> float:
    return compare_scores(expected, found, CASES, graph="model.onnx")[2]  # type: ignore[arg-type]


def test_small_differences_pass_and_are_reported() -> None:
    assert compare(Fixed(0.5), Fixed(0.50005)) == pytest.approx(5e-5, rel=1e-2)


@pytest.mark.parametrize("probability", [0.5002, float("nan")])
def test_a_large_difference_or_none_at_all_is_refused(probability: float) -> None:
    with pytest.raises(ParityError, match=r"model\.onnx: ragged batches, text 0"):
        compare(Fixed(0.5), Fixed(probability))


def test_another_decision_is_refused() -> None:
    with pytest.raises(ParityError, match="decides"):
        compare(Fixed(0.5, "review"), Fixed(0.50001, "block"))


def test_the_cases_cover_the_corners() -> None:
    cases = parity_cases(["one text", "another"], max_windows=4, window_tokens=16)
    assert cases["ragged batches"] == [["one text", "another"]]
    assert cases["batch of one"] == [["one text"], ["another"]]
    assert cases["empty text"] == [[""]]
    [[longest]] = cases["longest text"]
    assert len(longest) == 12 * 4 * 16
    assert parity_cases([], max_windows=4, window_tokens=16)["longest text"][0][0]


class Attributes:
    """A graph with an attribution that a test chooses."""

    def __init__(self, attribution: np.ndarray | None) -> None:
        self.attribution = attribution

    def run(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> Outputs:
        return Outputs(np.zeros((1, 2), np.float32), attribution=self.attribution)  # type: ignore[arg-type]


def attributed(expected: np.ndarray | None, found: np.ndarray | None) -> float | None:
    tokens = np.ones((1, 3), dtype=np.int64)
    batches = [AttributedBatch(tokens, tokens, expected)]
    return compare_attribution(batches, Attributes(found), graph="model.onnx")


def test_the_attribution_is_compared_token_by_token() -> None:
    expected = np.zeros((1, 3, 2), dtype=np.float32)
    found = expected.copy()
    found[0, 1, 1] = 5e-4
    assert attributed(expected, found) == pytest.approx(5e-4)
    assert attributed(None, None) is None
    for wrong in (2 * ATTRIBUTION_TOLERANCE, float("nan")):
        found[0, 1, 1] = wrong
        with pytest.raises(ParityError, match=r"model\.onnx: the attribution of a token differs"):
            attributed(expected, found)


def test_attribution_on_one_side_only_is_refused() -> None:
    some = np.zeros((1, 3, 2), dtype=np.float32)
    with pytest.raises(ParityError, match="only the trained model gives attribution"):
        attributed(some, None)
    with pytest.raises(ParityError, match="only the graph gives attribution"):
        attributed(None, some)

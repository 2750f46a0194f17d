import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from merchantguard.core.errors import BundleError
from merchantguard.core.files import sha256_file
from merchantguard.serve import MicroBatcher, Scorer
from merchantguard.serve.bundle import CascadeStage
from merchantguard.serve.cascade import allowed_below, certify_loss, least_loss

COMPLIANT, VIOLATING = "Call us or write a letter.", "We sell crimson goods."


class Longest(torch.nn.Module):
    """Suspicion by the number of tokens: known, and other than the model's own opinion."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return (attention_mask * (input_ids >= 0)).sum(dim=1, keepdim=True).float()


@pytest.fixture(scope="session")
def staged(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose first stage was calibrated on 200 violating texts of 10 tokens, and two of 4 and 5."""
    folder = make_bundle(tmp_path_factory.mktemp("cascade") / "bundle")
    ids = torch.ones(2, 5, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Longest(),
            (ids, ids),
            str(folder / "model.first.onnx"),
            dynamo=False,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask")},
        )
    names = ("model.onnx", "tokenizer.json", "model.first.onnx")
    stage = {
        "graph": "model.first.onnx",
        "confidence": 0.95,
        "violating_scores": [4.0, 5.0, *[10.0] * 200],
    }
    return make_bundle(folder, first_stage=stage, files={name: sha256_file(folder / name) for name in names})


@given(st.integers(1, 3000), st.floats(0.001, 0.5))
@settings(max_examples=200, deadline=None)
def test_the_limit_is_the_binomial_one(count: int, loss: float) -> None:
    allowed = allowed_below(count, loss, 0.95)
    if allowed is None:
        assert binom.cdf(0, count, loss) > 0.05
        assert least_loss(count, 0.95) > loss
    else:
        assert binom.cdf(allowed, count, loss) <= 0.05 + 1e-9
        assert allowed == count - 1 or binom.cdf(allowed + 1, count, loss) > 0.05 - 1e-9
        assert least_loss(count, 0.95) <= loss + 1e-12


def test_the_certificate_holds_as_often_as_it_says() -> None:
    """Limits from 200 draws; the share of the world below them passes the loss in at most 5 % of 2,000 worlds."""
    draw = np.random.default_rng(0)
    broken = 0
    for _ in range(2000):
        scores = tuple(np.sort(draw.random(200)).tolist())
        limit = certify_loss(CascadeStage("g", 0.95, scores), 0.05, place="here").limit
        broken += limit > 0.05  # uniform scores: the limit is the share below it
    assert 0.02 < broken / 2000 <= 0.06


def test_too_few_texts_certify_nothing_and_say_what_they_can() -> None:
    stage = CascadeStage("g", 0.95, tuple(range(88)))
    with pytest.raises(BundleError, match=r"88 violating calibration texts certify 3.35% at least"):
        certify_loss(stage, 0.02, place="bundle")
    assert certify_loss(stage, 0.034, place="bundle").below == 0
    with pytest.raises(BundleError, match=r"0 violating calibration texts certify 100\.00%"):
        certify_loss(CascadeStage("g", 0.95, ()), 0.5, place="bundle")
    with pytest.raises(ValueError, match="loss is 2"):
        certify_loss(stage, 2, place="bundle")


def test_a_cleared_text_never_reaches_the_model(staged: Path) -> None:
    scorer = Scorer.load(staged, cascade=0.02, threads=2)
    assert scorer.cascade is not None
    assert (scorer.cascade.certificate.below, scorer.cascade.certificate.limit) == (0, 4.0)
    texts = ["", VIOLATING, COMPLIANT, VIOLATING * 9]
    found = list(scorer.assess_many(texts))
    assert [each.cleared_early for each in found] == [True, False, False, False]
    assert found[0].decision == "clear"
    assert np.isnan(found[0].probabilities).all()
    exact = Scorer.load(staged)
    for text, assessment in zip(texts[1:], found[1:], strict=True):
        assert assessment.findings == exact.assess(text).findings
    assert not exact.assess("").cleared_early


def test_a_greater_loss_clears_more(staged: Path) -> None:
    limits = [
        stage.certificate.limit
        for loss in (0.02, 0.03, 0.05)
        if (stage := Scorer.load(staged, cascade=loss).cascade)
    ]
    assert limits == sorted(limits)
    assert limits[-1] == 10.0
    assert Scorer.load(staged, cascade=0.05).assess(VIOLATING).cleared_early


def test_the_micro_batcher_answers_a_cleared_text_at_once(staged: Path) -> None:
    with MicroBatcher(Scorer.load(staged, cascade=0.02)) as batcher:
        early = batcher.submit("")
        assert early.done()
        assert early.result().cleared_early
        assert batcher.submit(VIOLATING).result(30).decision == "block"
        assert batcher.stats().outcomes["completed"] == 2


def test_a_bundle_without_a_first_stage_says_so(bundle_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no first stage; export again, with --stream"):
        Scorer.load(bundle_path, cascade=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graph": "other.onnx"}, "other.onnx is not listed"),
        ({"confidence": 2.0}, "confidence is 2.0"),
        ({"violating_scores": [2.0, 1.0]}, "do not rise"),
        ({"violating_scores": [None]}, "must be a finite number"),
    ],
)
def test_a_damaged_first_stage_is_refused(
    make_bundle: Callable[..., Path], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    stage = {"graph": "model.onnx", "confidence": 0.95, "violating_scores": [1.0]} | change
    with pytest.raises(BundleError, match=message):
        Scorer.load(make_bundle(tmp_path / "b", first_stage=stage))

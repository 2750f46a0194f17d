"""What each token adds: it sums up to the scores, and finds evidence without a further run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from merchantguard.export.attribution import Explained, ngram_attribution
from merchantguard.export.build import export_bundle
from merchantguard.export.merge import example_inputs, merge_adapter
from merchantguard.serve import MicroBatcher, Scorer
from merchantguard.serve.engine.onnx_model import OnnxModel
from merchantguard.train.model.policy_model import PolicyModel, inner_tokens
from merchantguard.train.run import LoadedRun

from .conftest import TEXTS

MIXED = {"ngram_buckets": 64, "token_pooling": "softmax", "gate": True, "feature_norm": 10.0}


@pytest.fixture(scope="module")
def mixed(make_run: Callable[..., LoadedRun]) -> PolicyModel:
    return merge_adapter(make_run(**MIXED).model)


def test_logits_are_the_models_own(mixed: PolicyModel) -> None:
    inputs = example_inputs(mixed, batch=3, length=9)
    logits, attribution = Explained(mixed)(*inputs)
    assert torch.allclose(logits, mixed(*inputs), atol=1e-5)
    assert attribution.shape == (3, 9, 3)
    assert not attribution[inputs[1] == 0].any(), "padding adds nothing"


def test_without_a_mixture_attribution_and_bias_are_the_logits(make_run: Callable[..., LoadedRun]) -> None:
    model = merge_adapter(make_run(feature_norm=10.0).model)
    logits, attribution = Explained(model)(*example_inputs(model, batch=3, length=9))
    assert torch.allclose(attribution.sum(dim=1) + model.head.bias, logits, atol=1e-5)


def test_softmax_attribution_sums_up_to_what_exceeds_the_lowest_token(
    make_run: Callable[..., LoadedRun],
) -> None:
    model = merge_adapter(make_run(token_pooling="softmax", gate=True, feature_norm=10.0).model)
    inputs = example_inputs(model, batch=3, length=9)
    logits, attribution = Explained(model)(*inputs)
    scores, _ = model.token_scores(*inputs)
    lowest = torch.where(inner_tokens(inputs[1]).unsqueeze(-1), scores, torch.inf).amin(dim=1)
    assert torch.allclose(attribution.sum(dim=1) + lowest, logits, atol=1e-4)
    assert (attribution >= 0).all()


def test_attribution_of_the_ngram_branch_sums_up_to_the_score_of_a_short_text(mixed: PolicyModel) -> None:
    assert mixed.ngrams is not None
    inputs = example_inputs(mixed, batch=3, length=9)
    added = ngram_attribution(mixed.ngrams, *inputs)
    assert torch.allclose(added.sum(dim=1) + mixed.ngrams.bias, mixed.ngrams(*inputs), atol=1e-5)


def test_evidence_of_a_bundle_costs_no_further_run(
    make_run: Callable[..., LoadedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_bundle(make_run(**MIXED), tmp_path / "bundle", texts=TEXTS)
    runs: list[int] = []
    run = OnnxModel.run

    def counted(model: OnnxModel, input_ids: np.ndarray, attention_mask: np.ndarray) -> object:
        runs.append(len(input_ids))
        return run(model, input_ids, attention_mask)

    monkeypatch.setattr(OnnxModel, "run", counted)
    for variant in ("plain", "fused"):
        scorer = Scorer.load(tmp_path / "bundle", variant=variant, threads=1)
        runs.clear()
        assessed = scorer.assess(TEXTS[0])
        assert sum(runs) == assessed.windows
        assert assessed.findings
        assert all(finding.spans for finding in assessed.findings)
        with MicroBatcher(scorer) as batcher:
            online = batcher.submit(TEXTS[0]).result(30)
        assert [each.spans for each in online.findings] == [each.spans for each in assessed.findings]


def test_a_model_that_does_not_average_its_tokens_is_searched(
    make_run: Callable[..., LoadedRun], tmp_path: Path
) -> None:
    export_bundle(make_run(token_pooling="cls"), tmp_path / "bundle", texts=TEXTS)
    scorer = Scorer.load(tmp_path / "bundle", variant="plain", threads=1)
    assert scorer.runner.run([[1, 2]], batch_tokens=8).attribution is None
    assert all(finding.spans for finding in scorer.assess(TEXTS[0]).findings)

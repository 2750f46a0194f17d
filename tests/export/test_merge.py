from collections.abc import Callable

import pytest
import torch

from merchantguard.core.errors import ParityError
from merchantguard.export.merge import example_inputs, merge_adapter
from merchantguard.train.run import LoadedRun


def test_the_merged_copy_says_the_same_and_the_model_stays(run: LoadedRun) -> None:
    before = {name: weights.clone() for name, weights in run.model.state_dict().items()}
    merged = merge_adapter(run.model)
    inputs = example_inputs(run.model, batch=4, length=12)
    with torch.no_grad():
        assert torch.allclose(merged(*inputs), run.model(*inputs), atol=1e-5)
    assert not any("lora" in name for name, _ in merged.named_modules())
    assert before.keys() == run.model.state_dict().keys()
    assert all(torch.equal(weights, run.model.state_dict()[name]) for name, weights in before.items())


def test_the_adapter_matters(run: LoadedRun) -> None:
    inputs = example_inputs(run.model, batch=4, length=12)
    with torch.no_grad(), run.model.encoder.disable_adapter():  # type: ignore[operator]
        without = run.model(*inputs)
    with torch.no_grad():
        assert not torch.allclose(without, run.model(*inputs), atol=1e-2)


def test_a_model_without_an_adapter_is_copied(make_run: Callable[..., LoadedRun]) -> None:
    model = make_run(lora=False).model
    merged = merge_adapter(model)
    assert merged is not model
    inputs = example_inputs(model, batch=2, length=5)
    with torch.no_grad():
        assert torch.equal(merged(*inputs), model(*inputs))


def test_a_wrong_merge_is_refused(run: LoadedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = type(run.model.encoder)
    monkeypatch.setattr(encoder, "merge_and_unload", lambda self, **_: self.unload(), raising=False)
    with pytest.raises(ParityError, match="moves a logit"):
        merge_adapter(run.model)

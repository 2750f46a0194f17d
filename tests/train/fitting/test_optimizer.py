"""Settings of optimizer, schedule, adapter and dropout reach the objects that apply them."""

from pathlib import Path

import pytest
from peft.tuners.lora import LoraLayer
from torch import nn

from merchantguard.train.fitting.optimizer import build_optimizer, build_schedule
from merchantguard.train.model.policy_model import PolicyModel, build_model
from merchantguard.train.settings import LoraSettings, ModelSettings, OptimSettings


def _model(base: Path, lora: LoraSettings | None = None, **changes: object) -> PolicyModel:
    settings = ModelSettings(base=str(base), window_tokens=24, stride_tokens=6, **changes)  # type: ignore[arg-type]
    return build_model(settings, lora or LoraSettings(rank=2), n_policies=3)


def test_every_group_of_weights_has_its_rate_and_decay(tiny_base: Path) -> None:
    optim = OptimSettings(learning_rate=0.01, head_learning_rate=0.02, weight_decay=0.3)
    model = _model(tiny_base, LoraSettings(enabled=False))
    groups = build_optimizer(model, optim, LoraSettings(enabled=False)).param_groups
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.01, 0.3), (0.01, 0.0), (0.02, 0.3)]
    assert {id(p) for p in groups[-1]["params"]} == {id(p) for p in model.head.parameters()}
    default = OptimSettings(learning_rate=0.01)
    assert build_optimizer(model, default, LoraSettings(enabled=False)).param_groups[-1]["lr"] == 0.01


@pytest.mark.parametrize(("schedule", "late"), [("linear", 0.25), ("cosine", 0.1464)])
def test_the_rate_rises_over_the_warm_up_and_then_falls_to_zero(
    tiny_base: Path, schedule: str, late: float
) -> None:
    optim = OptimSettings(schedule=schedule, warmup=0.2, learning_rate=1.0)  # type: ignore[arg-type]
    built = build_schedule(build_optimizer(_model(tiny_base), optim, LoraSettings()), optim, steps=100)
    rates = [built.lr_lambdas[0](step) for step in (0, 10, 20, 80, 100)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, late, 0.0], abs=1e-4)


def test_dropout_is_set_in_the_encoder_the_adapter_and_the_head(tiny_base: Path) -> None:
    lora = LoraSettings(rank=2, dropout=0.3)
    model = _model(tiny_base, lora, head_dropout=0.4, encoder_dropout=0.2)
    rates = {
        name: module.p
        for name, module in model.named_modules()
        if isinstance(module, nn.Dropout) and "lora" not in name
    }
    assert rates.pop("dropout") == 0.4
    assert set(rates.values()) == {0.2}
    adapted = [module for module in model.modules() if isinstance(module, LoraLayer)]
    assert {module.lora_dropout["default"].p for module in adapted} == {0.3}


def test_the_adapter_has_the_rank_scale_and_targets_of_its_settings(tiny_base: Path) -> None:
    model = _model(tiny_base, LoraSettings(rank=4, alpha=6.0, targets=("attention.self.query",)))
    adapted = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    assert adapted
    assert all(name.endswith("attention.self.query") for name in adapted)
    assert {module.r["default"] for module in adapted.values()} == {4}
    assert {module.scaling["default"] for module in adapted.values()} == {1.5}
    every = _model(tiny_base, LoraSettings(rank=4, alpha=6.0, rslora=True))
    layers = [module for module in every.modules() if isinstance(module, LoraLayer)]
    assert len(layers) > len(adapted)
    assert {module.scaling["default"] for module in layers} == {3.0}

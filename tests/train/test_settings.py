"""Settings: what is accepted and rejected, files and overrides, and the shipped configurations."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from merchantguard.core.errors import SettingsError
from merchantguard.train.settings import Settings, build_settings, flat_settings, load_settings, save_settings

CONFIGS = sorted(
    entry.name
    for entry in files("merchantguard").joinpath("configs").iterdir()
    if entry.name.endswith(".yaml") and entry.name != "policies.yaml"
)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_is_valid_and_opens_with_its_own_command(name: str) -> None:
    path = Path(str(files("merchantguard").joinpath("configs"))) / name
    settings = load_settings(path)
    assert settings.name == name.removesuffix(".yaml")
    opening = path.read_text().splitlines()[1]
    assert f"configs/{name}" in opening
    assert "train" in opening


def test_all_errors_are_reported_together(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("lora: {rank: 0, rnk: 3}\noptim: {epochs: many}\nmodle: {}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(path, overrides=["loss.name=mse"])
    for place in ("lora.rank", "lora.rnk", "optim.epochs", "modle", "loss.name", str(path)):
        assert place in str(caught.value)


def test_overrides_win_and_the_resolved_settings_read_back_equal(tmp_path: Path) -> None:
    settings = load_settings(overrides=["optim.epochs=3", "lora.dora=true", "optim.mixed_precision=no"])
    assert (settings.optim.epochs, settings.lora.dora, settings.optim.mixed_precision) == (3, True, "no")
    save_settings(settings, tmp_path / "resolved.yaml")
    assert load_settings(tmp_path / "resolved.yaml") == settings


@pytest.mark.parametrize("override", ["epochs", "name.first=x", "optim.epochs.more=1"])
def test_a_wrong_override_is_reported(override: str) -> None:
    with pytest.raises(SettingsError):
        load_settings(overrides=["name=x", "optim.epochs=1", override])


@pytest.mark.parametrize("content", ["- a list\n", "a: [unclosed\n"])
def test_a_file_that_is_not_a_settings_file_is_reported(content: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"odd\.yaml"):
        load_settings(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "absent.yaml")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().seed = 3  # type: ignore[misc]


def test_trackers_get_every_setting_as_a_plain_value() -> None:
    flat = flat_settings(build_settings({"name": "one", "data": {"records": ["a.jsonl"]}}))
    assert flat["name"] == "one"
    assert flat["optim.epochs"] == 10
    assert flat["data.records"] == '["a.jsonl"]'
    assert flat["loop.threads"] == "null"
    assert {type(value) for value in flat.values()} <= {str, int, float, bool}


# For every setting a value that is accepted, not the default, and one that is rejected.
VALUES: dict[str, tuple[Any, Any]] = {
    "name": ("my.model-1", "-x"),
    "version": ("2026-11", "a b"),
    "seed": (7, "x"),
    "model.base": ("some/encoder", 1),
    "model.sha256": ("53aa51172d14", 1),
    "model.licence": ("MIT", 1),
    "model.token_pooling": ("softmax", "sum"),
    "model.sharpness": (4.0, 0),
    "model.window_pooling": ("attention", "mean"),
    "model.feature_norm": (10.0, -1),
    "model.describe_head": (True, "maybe"),
    "model.head_dropout": (0.2, 1.0),
    "model.encoder_dropout": (None, -0.1),
    "model.attention": ("sdpa", "flash"),
    "model.window_tokens": (512, 7),
    "model.stride_tokens": (32, -1),
    "model.max_windows": (8, 0),
    "model.gate": (True, "maybe"),
    "model.ngram_buckets": (512, -1),
    "model.languages": (("en", "de"), ["English"]),
    "lora.enabled": (False, "maybe"),
    "lora.rank": (4, 0),
    "lora.alpha": (8.0, 0),
    "lora.dropout": (0.1, 1.0),
    "lora.targets": (("query", "value"), "some"),
    "lora.rslora": (True, "maybe"),
    "lora.dora": (True, "maybe"),
    "lora.init": ("pissa", "zeros"),
    "lora.plus_ratio": (4.0, 0.5),
    "loss.name": ("focal", "mse"),
    "loss.positive_weight": (5.0, 0),
    "loss.label_smoothing": (0.1, 1.0),
    "loss.focal_gamma": (1.0, -1),
    "loss.asl_gamma_negative": (2.0, -1),
    "loss.asl_clip": (0.1, 1.0),
    "optim.epochs": (3, 0),
    "optim.max_steps": (100, 0),
    "optim.learning_rate": (0.01, 0),
    "optim.head_learning_rate": (0.01, 0),
    "optim.weight_decay": (0.1, -1),
    "optim.schedule": ("linear", "step"),
    "optim.warmup": (0.1, 1.0),
    "optim.clip_norm": (2.0, 0),
    "optim.batch_tokens": (1024, 63),
    "optim.batch_records": (4, 0),
    "optim.accumulate": (2, 0),
    "optim.mixed_precision": ("bf16", "fp8"),
    "optim.packing": ("packed", "dense"),
    "optim.gradient_checkpointing": (True, "maybe"),
    "optim.compile": (True, "maybe"),
    "optim.ema": (0.98, 1.0),
    "loop.evaluate_every": (50, 0),
    "loop.patience": (2, 0),
    "loop.checkpoint_every": (50, 0),
    "loop.trackers": (("wandb",), ["comet"]),
    "loop.threads": (2, 0),
    "data.taxonomy": ("policies.yaml", 1),
    "data.records": (("a.jsonl",), "a.jsonl"),
    "data.shards": (("shards",), "shards"),
    "data.window_cache": ("cache", 1),
    "data.train": (0.5, 0),
    "data.validation": (0.2, 0),
    "data.calibration": (0.2, 0),
    "data.test": (0.2, 0),
    "data.by_time": (True, "maybe"),
    "data.split_seed": (3, "x"),
    "data.quotes": (True, "maybe"),
    "data.compliant_passages": (2, -1),
    "data.everyday": (("shipped",), "shipped"),
    "data.everyday_turns": (4, 0),
    "data.ordinary": (("shipped",), "shipped"),
    "data.framed": (10, -1),
    "data.pages": (10, -1),
    "data.page_chunks": (5, 0),
    "data.phrasebook": (("shipped",), "shipped"),
    "data.phrase_turns": (4, 0),
    "data.disguised_copies": (1, -1),
    "data.weak": (("weak.jsonl",), 3),
    "data.behaviour": ("my-tests", 1),
    "thresholds.precision_target": (0.9, 0.5),
    "thresholds.recall_target": (0.9, 1.0),
    "thresholds.confidence": (0.9, 1.0),
    "thresholds.prevalence": (0.1, 0),
    "thresholds.policy_floor": (0.7, 1.0),
    "thresholds.review_budget": (0.02, 0),
}


def _named(settings: Settings) -> Iterator[tuple[str, Any]]:
    for name, value in settings:
        if isinstance(value, BaseModel):
            yield from ((f"{name}.{leaf}", each) for leaf, each in value)
        else:
            yield name, value


def test_the_table_of_values_names_every_setting() -> None:
    assert list(VALUES) == [name for name, _ in _named(Settings())]


@pytest.mark.parametrize("name", VALUES)
def test_a_setting_takes_its_values_and_no_other(name: str) -> None:
    accepted, rejected = VALUES[name]
    # A gate stands on softmax pooling.
    given = ["model.token_pooling=softmax"] if name == "model.gate" else []
    before = dict(_named(load_settings(overrides=given)))
    after = dict(_named(load_settings(overrides=[*given, f"{name}={json.dumps(accepted)}"])))
    assert after == before | {name: accepted}
    assert before[name] != accepted
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides=[f"{name}={json.dumps(rejected)}"])
    assert f"  {name}" in str(caught.value)
    assert "1 error(s)" in str(caught.value) or name == "lora.targets"


def test_a_version_can_be_a_whole_number() -> None:
    assert load_settings(overrides=["version=2"]).version == "2"
    with pytest.raises(SettingsError, match="version"):
        load_settings(overrides=["version=1.10"])


@pytest.mark.parametrize(
    ("override", "message"),
    [("model.stride_tokens=250", "stride_tokens"), ("model.token_pooling=mean", "gate: true needs")],
)
def test_settings_that_contradict_each_other_are_rejected(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(overrides=["model.token_pooling=softmax", "model.gate=true", override])


def test_settings_that_follow_data_are_settings(tmp_path: Path) -> None:
    from merchantguard.train.cli.options import chosen_settings

    odd = tmp_path / "a=b.jsonl"
    odd.touch()
    chosen = chosen_settings(None, ["seed=3"], ["records.jsonl", "optim.epochs=5", "lora.rank=8", str(odd)])
    assert (chosen.seed, chosen.optim.epochs, chosen.lora.rank) == (3, 5, 8)
    assert chosen.data.records == ("records.jsonl", str(odd))

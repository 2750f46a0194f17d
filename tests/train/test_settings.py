from importlib.resources import files
from pathlib import Path

import pytest
from pydantic import ValidationError

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


def test_all_faults_are_shown_together(tmp_path: Path) -> None:
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
def test_an_override_that_is_none_is_named(override: str) -> None:
    with pytest.raises(SettingsError):
        load_settings(overrides=["name=x", "optim.epochs=1", override])


@pytest.mark.parametrize("content", ["- a list\n", "a: [unclosed\n"])
def test_a_file_that_is_no_settings_file_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"odd\.yaml"):
        load_settings(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "absent.yaml")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().seed = 3  # type: ignore[misc]


def test_trackers_are_given_every_setting_as_a_plain_value() -> None:
    flat = flat_settings(build_settings({"name": "one", "data": {"records": ["a.jsonl"]}}))
    assert flat["name"] == "one"
    assert flat["optim.epochs"] == 10
    assert flat["data.records"] == '["a.jsonl"]'
    assert flat["loop.threads"] == "null"
    assert {type(value) for value in flat.values()} <= {str, int, float, bool}

"""The space of a search: dotted settings with their choices or ranges, in YAML.

lora.rank: [4, 8, 16]
optim.learning_rate: {low: 1.0e-4, high: 5.0e-3, log: true}
optim.epochs: {low: 2, high: 6, step: 2}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import SettingsError
from ...core.extras import require
from ..settings import Settings, build_settings

# With another split, taxonomy or target trials would not be comparable.
_FIXED = (
    "name",
    "version",
    "seed",
    "data.taxonomy",
    "data.records",
    "data.split_seed",
    "data.by_time",
    "thresholds",
)
_FIXED_SHARES = ("data.train", "data.validation", "data.calibration", "data.test")


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting's choices, or its range; whole numbers where both ends are whole."""

    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None

    def suggest(self, trial: Any, setting: str) -> Any:
        """A value for optuna's trial."""
        if self.choices:
            # optuna stores plain values only, so a choice is stored as its JSON.
            return json.loads(
                trial.suggest_categorical(setting, [json.dumps(choice) for choice in self.choices])
            )
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(setting, self.low, self.high, log=self.log, step=int(self.step or 1))
        return trial.suggest_float(setting, self.low, self.high, log=self.log, step=self.step)

    def ends(self) -> tuple[Any, ...]:
        """Values that the settings must allow for the whole dimension to be allowed."""
        return self.choices or (self.low, self.high)


def load_space(source: str, settings: Settings) -> dict[str, Dimension]:
    """Read a space from a YAML file, or from inline YAML, and check it against the settings.

    :raises SettingsError: naming all faults together.
    """
    yaml = require("yaml", "cli")
    path = Path(source)
    inline = source.lstrip().startswith("{")
    try:
        values = yaml.safe_load(source if inline else path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"--space {source}: cannot be read ({error.strerror}); give a YAML file, or '{{lora.rank: [4, 8]}}'"
        ) from error
    except yaml.YAMLError as error:
        raise SettingsError(f"--space: is not YAML: {error}") from error
    if not isinstance(values, dict) or not values:
        raise SettingsError("--space: must map settings to choices or ranges, as in '{lora.rank: [4, 8]}'")
    faults: list[str] = []
    space: dict[str, Dimension] = {}
    for setting, entry in values.items():
        try:
            space[str(setting)] = _dimension(str(setting), entry)
            for value in space[str(setting)].ends():
                with_values(settings, {str(setting): value})
        except SettingsError as error:
            faults.append(f"  {setting}: {error}")
    if faults:
        raise SettingsError(f"--space: {len(faults)} fault(s):\n" + "\n".join(faults))
    return space


def _dimension(setting: str, entry: Any) -> Dimension:
    if setting in _FIXED_SHARES or any(setting == name or setting.startswith(f"{name}.") for name in _FIXED):
        raise SettingsError("must stay fixed: the trials of a search could not be compared")
    if isinstance(entry, list):
        if not entry:
            raise SettingsError("has no choices")
        return Dimension(choices=tuple(entry))
    if not isinstance(entry, Mapping) or not {"low", "high"} <= set(entry) <= {"low", "high", "log", "step"}:
        raise SettingsError(f"is {entry!r}; write a list of choices, or {{low: ..., high: ..., log: true}}")
    low, high = _number(entry["low"]), _number(entry["high"])
    log, step = bool(entry.get("log", False)), entry.get("step")
    if low > high or (log and (low <= 0 or step is not None)) or (step is not None and _number(step) <= 0):
        raise SettingsError(
            f"is {dict(entry)!r}: low must not exceed high, a log scale needs low above 0 and no step, and a step must "
            "be positive"
        )
    return Dimension(low=low, high=high, log=log, step=None if step is None else _number(step))


def _number(value: Any) -> float:
    """Numbers, also those that YAML reads as text (1e-4 without a dot)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise SettingsError(f"{value!r} is not a number")
    try:
        return value if isinstance(value, int | float) else float(value)
    except ValueError as error:
        raise SettingsError(f"{value!r} is not a number") from error


def with_values(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The settings with new values for some of them, by dotted name.

    :raises SettingsError: if a name or a value is not allowed.
    """
    plain = settings.model_dump(mode="json")
    for setting, value in values.items():
        *groups, leaf = setting.split(".")
        place: Any = plain
        for group in groups:
            place = place.get(group) if isinstance(place, dict) else None
        if not isinstance(place, dict) or leaf not in place:
            raise SettingsError(f"there is no setting {setting!r}")
        place[leaf] = value
    return build_settings(plain, source="trial")

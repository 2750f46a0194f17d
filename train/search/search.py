"""Search over settings by optuna's tree-structured Parzen estimator (Bergstra 2011), measured on the validation split.

The calibration and test splits are removed before the first trial: no choice can depend on them.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.state import AcceleratorState

from ...core.errors import RunError, SettingsError
from ...core.extras import require
from ..batching.dataset import SplitRecords
from ..evaluation import metrics
from ..fitting.checkpoint import LogRow, fingerprint
from ..fitting.fit import fit_splits
from ..processes import process_state
from ..settings import Settings, save_settings
from .space import Dimension, with_values

DATABASE, BEST = "trials.db", "best.yaml"
_STARTUP_TRIALS = 10
_PRUNED_FROM = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of a search: its settings, how it ended, its validation figure (None without one)."""

    number: int
    values: Mapping[str, Any]
    state: str
    figure: float | None
    evaluations: int


class Search:
    """A search in a folder of its own, which a later process can continue.

    :param settings: the values of all settings that the space does not vary.
    :param data: only its splits "train" and "validation" are used.
    :raises RunError: if the folder holds a different search, or several processes were started.
    """

    def __init__(
        self, settings: Settings, data: SplitRecords, space: Mapping[str, Dimension], folder: Path
    ) -> None:
        if process_state().num_processes > 1:
            raise RunError("a search runs in one process; start it without a launcher")
        self.settings = settings.model_copy(
            update={"loop": settings.loop.model_copy(update={"trackers": ()})}
        )
        kept = {split: data.records[split] for split in ("train", "validation")}
        self.data = replace(data, records=kept)
        self.space, self.folder = space, folder
        self.study = self._open()

    def _open(self) -> Any:
        optuna = require("optuna", "search")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            storage=f"sqlite:///{(self.folder / DATABASE).absolute()}",
            study_name="search",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_PRUNED_FROM, n_warmup_steps=1),
        )
        key = fingerprint(self.settings, self.data.data_hash())
        wanted = {"settings": key, "space": {name: repr(dim) for name, dim in self.space.items()}}
        if study.user_attrs and study.user_attrs != wanted:
            raise RunError(
                f"{self.folder}: holds a search with other settings, data or space; continue it with the same ones, or "
                "choose another --out"
            )
        for key, value in wanted.items():
            study.set_user_attr(key, value)
        return study

    def run(self, trials: int, *, on_trial: Callable[[Trial], None]) -> list[Trial]:
        """Run trials until `trials` have ended (pruned and failed ones count), then write the best settings.

        A trial that was killed is repeated. A proposal depends on the seed and the earlier trials alone, so a search
        that was stopped ends with the same trials as an unbroken one.

        :param on_trial: called with each trial that ends.
        :raises RunError: if no trial was completed.
        """
        self._repeat_killed()
        while len(self.trials()) < trials:
            number = self._run_trial()
            on_trial(next(trial for trial in self.trials() if trial.number == number))
        best = self.best()
        save_settings(best, self.folder / BEST)
        return self.trials()

    def _repeat_killed(self) -> None:
        states = require("optuna", "search").trial.TrialState
        for trial in self.study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self.study.tell(trial.number, state=states.FAIL)
            self.study.enqueue_trial(trial.params)

    def _run_trial(self) -> int:
        optuna = require("optuna", "search")
        # Seeded by trial, so that a resumed search needs no sampler's state.
        seed = int(np.random.SeedSequence([self.settings.seed, len(self.trials())]).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=_STARTUP_TRIALS, seed=seed)
        trial = self.study.ask()
        values = {name: dimension.suggest(trial, name) for name, dimension in self.space.items()}
        state, figure = optuna.trial.TrialState.FAIL, None
        try:
            figure = self._train(with_values(self.settings, values), trial)
            state = optuna.trial.TrialState.COMPLETE
        except optuna.TrialPruned:
            state = optuna.trial.TrialState.PRUNED
        except (RunError, SettingsError) as error:
            trial.set_user_attr("error", str(error))
        self.study.tell(trial, figure, state=state)
        return int(trial.number)

    def _train(self, settings: Settings, trial: Any) -> float:
        """Macro average precision on the validation split of a model trained with these settings."""
        optuna = require("optuna", "search")
        folder = self.folder / f"trial-{trial.number:04d}"
        evaluations = 0

        def report_evaluation(row: LogRow) -> None:
            nonlocal evaluations
            trial.report(row.validation_macro_average_precision, step=evaluations)
            evaluations += 1
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            key = fingerprint(settings, self.data.data_hash())
            trained = fit_splits(
                settings, self.data, folder, fingerprint=key, on_evaluation=report_evaluation
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            # Trials may differ in precision, of which accelerate allows a process only one.
            AcceleratorState._reset_state()
        if trained is None:
            raise RunError("a trial ended without predictions")
        p = trained.predictions["validation"]
        # Average precision is of ranks within a policy: calibration, which a trial has none of, would not change it.
        return metrics.macro_average_precision(p.logits, p.labels)

    def trials(self) -> list[Trial]:
        """Every trial that ended, in order; killed ones (failed, but without an error) are left out."""
        return [
            Trial(
                number=t.number,
                values={name: self._decoded(name, value) for name, value in t.params.items()},
                state=t.state.name.lower(),
                figure=t.value if t.state.name == "COMPLETE" else None,
                evaluations=len(t.intermediate_values),
            )
            for t in self.study.get_trials(deepcopy=False)
            if t.state.is_finished() and (t.state.name != "FAIL" or "error" in t.user_attrs)
        ]

    def _decoded(self, name: str, value: Any) -> Any:
        return json.loads(value) if self.space[name].choices else value

    def errors(self) -> dict[int, str]:
        """The errors of failed trials by number."""
        return {
            t.number: t.user_attrs["error"]
            for t in self.study.get_trials(deepcopy=False)
            if "error" in t.user_attrs
        }

    def best(self) -> Settings:
        """The settings of the best trial.

        :raises RunError: if no trial was completed.
        """
        ended = [trial for trial in self.trials() if trial.figure is not None]
        if not ended:
            reasons = "\n".join(f"  trial {number}: {error}" for number, error in self.errors().items())
            raise RunError(f"{self.folder}: no trial was completed\n{reasons}")
        best = max(ended, key=lambda trial: (trial.figure, -trial.number))
        return with_values(self.settings, best.values)

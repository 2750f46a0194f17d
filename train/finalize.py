"""The second half of a training job: calibration, thresholds, evaluation, card and report of a trained model."""

from dataclasses import dataclass
from pathlib import Path

from ..core.files import sha256_file, write_json, write_text
from ..data.behaviour import Behaviour
from ..data.shipped import collection_records
from ..data.taxonomy import Taxonomy
from .batching.dataset import SplitRecords
from .batching.shards import shard_paths
from .calibration.thresholds import Targets
from .evaluation.behaviour import run_behaviour
from .evaluation.decision_rule import DecisionRule
from .evaluation.evaluate import evaluate
from .evaluation.figures import Evaluation
from .evaluation.predictions import Predictions
from .fitting.fit import TrainingResult
from .report.card import RunCard, run_card
from .report.report import RunReport, write_report
from .run import BEHAVIOUR, CARD, METRICS, REPORT, Provenance, load_run, predictions_file, write_rule
from .settings import Settings, ThresholdSettings


@dataclass(frozen=True, slots=True)
class FinalizedRun:
    """A trained model with its thresholds and its evaluation on the test split: the content of card and report."""

    result: TrainingResult
    settings: Settings
    data: SplitRecords
    provenance: Provenance
    rule: DecisionRule
    evaluation: Evaluation
    behaviour: Behaviour | None

    @property
    def counts(self) -> dict[str, int]:
        """Number of records by split."""
        return {split: len(records) for split, records in self.data.records.items()}

    @property
    def limits(self) -> list[str]:
        """Sentences on what the figures do not show."""
        counts, facts = self.counts, self.result.facts
        return [
            f"Figures are for {counts['test']} test records that share no domain and no near-duplicate with the "
            f"{counts['train']} training records; out-of-distribution merchants are harder.",
            f"Calibration and thresholds rest on {counts['calibration']} records: a policy with few positives among "
            "them has a calibration close to that of all policies, and usually no certified block threshold.",
            f"Training stopped after {facts.steps} steps; the weights are those of step {facts.best_step}, the best "
            "on the validation split.",
        ]


def finalize(
    result: TrainingResult, settings: Settings, data: SplitRecords, provenance: Provenance, folder: Path
) -> None:
    """Calibrate and certify on the calibration split, evaluate, and write the results; metrics.json comes last."""
    for split, predictions in result.predictions.items():
        predictions.save(predictions_file(folder, split))
    rule = certify(result.predictions["calibration"], settings.thresholds, data.taxonomy)
    write_rule(rule, folder)
    evaluations = {
        split: evaluate(result.predictions[split], rule, data.taxonomy) for split in ("validation", "test")
    }
    behaviour = _behaviour(settings, folder)
    run = FinalizedRun(result, settings, data, provenance, rule, evaluations["test"], behaviour)
    write_text(folder / CARD, _card(run))
    write_report(folder / REPORT, _report(run))
    write_json(folder / METRICS, {split: each.to_json() for split, each in evaluations.items()})


def _behaviour(settings: Settings, folder: Path) -> Behaviour | None:
    """The behaviour tests of the run that is about to be finished, also written to its folder."""
    if settings.data.behaviour is None:
        return None
    behaviour = run_behaviour(load_run(folder), settings.data.behaviour)
    write_json(folder / BEHAVIOUR, behaviour.to_json())
    return behaviour


def _card(run: FinalizedRun) -> str:
    shards = map(str, shard_paths(run.settings.data.shards))
    phrases = collection_records(run.settings.data.phrasebook, "phrasebook", run.data.taxonomy)
    card = RunCard(
        name=run.settings.name,
        taxonomy=run.data.taxonomy,
        base=run.provenance.base.to_json(),
        counts=run.counts,
        files=run.data.files | {shard: sha256_file(Path(shard)) for shard in shards},
        data_hash=run.provenance.data_hash,
        evaluation=run.evaluation,
        rule=run.rule,
        training=run.result.facts.to_json() | {"phrasebook texts, used for training only": len(phrases)},
        max_windows=run.settings.model.max_windows,
        limits=run.limits,
        behaviour=run.behaviour,
        languages=run.settings.model.languages,
    )
    return run_card(card)


def _report(run: FinalizedRun) -> RunReport:
    return RunReport(
        evaluation=run.evaluation,
        predictions=run.result.predictions["test"],
        rule=run.rule,
        taxonomy=run.data.taxonomy,
        log=[row.to_json() for row in run.result.log],
        title=f"{run.settings.name}: test split",
        settings=run.settings.model_dump(mode="json"),
        environment=run.provenance.environment.to_json(),
        data={"all splits": run.data.data_hash(), **run.data.files},
        limits=run.limits,
        behaviour=run.behaviour,
    )


def certify(predictions: Predictions, targets: ThresholdSettings, taxonomy: Taxonomy) -> DecisionRule:
    """Calibration and certified thresholds from predictions of the calibration split."""
    return DecisionRule.fit(predictions, Targets(**targets.model_dump()), taxonomy.ids)

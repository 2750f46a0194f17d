"""Block thresholds compared: naive, MAPIE's controller, ours, and an oracle that knows the truth.

    OMP_NUM_THREADS=1 python bench/thresholds.py --resamples 1000 --mapie-resamples 100

Each resample draws a calibration set from a world whose true precision at every threshold is known. A
threshold is violated if its true precision is below 0.95. Recall is the true one (0 if nothing is certified), also
as a share of the oracle's. In `rare` the threshold lies above 0.99, where MAPIE's default grid ends.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mapie.risk_control import BinaryClassificationController
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm

from merchantguard.core.labels import LabelMatrix
from merchantguard.train.calibration.platt_scaling import fit_calibration
from merchantguard.train.calibration.thresholds import fit_thresholds

TARGET = CONFIDENCE = 0.95
Array = NDArray[np.float32]


@dataclass(frozen=True)
class World:
    """Normal scores: those of positives are `separation` higher; `overconfidence` multiplies the logits."""

    prevalence: float
    separation: float
    overconfidence: float = 1.0

    def draw(self, generator: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, NDArray[np.bool_]]:
        labels = generator.random(shape) < self.prevalence
        scores = generator.standard_normal(shape) + self.separation * labels
        return self.probability(scores), labels

    def probability(self, scores: NDArray[np.float64]) -> Array:
        right = self.separation * scores - self.separation**2 / 2 + logit(self.prevalence)
        return expit(self.overconfidence * right).astype(np.float32)

    def score(self, threshold: float) -> float:
        right = logit(min(threshold, 1 - 1e-9)) / self.overconfidence
        return float((right + self.separation**2 / 2 - logit(self.prevalence)) / self.separation)

    def recall(self, score: float) -> float:
        return float(norm.sf(score - self.separation))

    def precision(self, score: float) -> float:
        hits = self.prevalence * self.recall(score)
        return hits / (hits + (1 - self.prevalence) * float(norm.sf(score)))

    def oracle(self) -> float:
        return float(brentq(lambda score: self.precision(score) - TARGET, -5, self.separation + 6))


WORLDS = {
    "easy": World(0.10, 4.0),
    "hard": World(0.10, 3.0),
    "rare": World(0.02, 4.0, overconfidence=3.0),
}


def naive(probabilities: Array, labels: NDArray[np.bool_]) -> list[float | None]:
    """The lowest threshold whose precision on the calibration set reaches the target."""
    result: list[float | None] = []
    for column in range(labels.shape[1]):
        order = np.argsort(-probabilities[:, column])
        share = np.cumsum(labels[order, column]) / np.arange(1, len(order) + 1)
        good = np.flatnonzero(share >= TARGET)
        result.append(float(probabilities[order[good[-1]], column]) if len(good) else None)
    return result


def mapie(probabilities: Array, labels: NDArray[np.bool_], method: str) -> list[float | None]:
    """MAPIE's default candidates, 0 to 0.99."""
    result: list[float | None] = []
    for column in range(labels.shape[1]):
        controller = BinaryClassificationController(
            lambda values: np.stack([1 - values, values], axis=1),
            "precision",
            target_level=TARGET,
            confidence_level=CONFIDENCE,
            fwer_method=method,
            list_predict_params=(
                np.linspace(0.99, 0, 100) if method == "fixed_sequence" else np.linspace(0, 0.99, 100)
            ),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            controller.calibrate(probabilities[:, column].astype(float), labels[:, column].astype(int))
        best = controller.best_predict_param
        result.append(None if best is None else float(best))
    return result


def ours(probabilities: Array, labels: NDArray[np.bool_]) -> list[float | None]:
    names = [str(column) for column in range(labels.shape[1])]
    return [t.block for t in fit_thresholds(probabilities, _matrix(labels), names)]


def _matrix(labels: NDArray[np.bool_]) -> LabelMatrix:
    return LabelMatrix(labels, np.ones_like(labels))


def ours_after_calibration(probabilities: Array, labels: NDArray[np.bool_]) -> list[float | None]:
    """Calibrated on the same records first, as a run does; thresholds mapped back to compare."""
    logits = logit(np.clip(probabilities.astype(np.float64), 1e-9, 1 - 1e-7))
    result: list[float | None] = []
    for column in range(labels.shape[1]):
        one = np.s_[:, column : column + 1]
        calibration = fit_calibration(logits[one], _matrix(labels[one]))
        block = ours(calibration.apply(logits[one]), labels[one])[0]
        back = None if block is None else logit(min(block, 1 - 1e-9))
        result.append(
            None if back is None else float(expit((back - calibration.bias[0]) / calibration.scale[0]))
        )
    return result


METHODS: dict[str, Callable[[Array, NDArray[np.bool_]], list[float | None]]] = {
    "naive": naive,
    "MAPIE default": lambda p, y: mapie(p, y, "bonferroni_holm"),
    "MAPIE fixed sequence": lambda p, y: mapie(p, y, "fixed_sequence"),
    "ours": ours,
    "ours, calibrated": ours_after_calibration,
}
SLOW = ("MAPIE default", "MAPIE fixed sequence", "ours, calibrated")


def row(world: World, name: str, probabilities: Array, labels: NDArray[np.bool_]) -> str:
    start = time.perf_counter()
    chosen = METHODS[name](probabilities, labels)
    seconds = (time.perf_counter() - start) / len(chosen)
    scores = [world.score(threshold) for threshold in chosen if threshold is not None]
    recall = sum(map(world.recall, scores)) / len(chosen)
    violated = sum(world.precision(score) < TARGET for score in scores) / len(chosen)
    share = recall / world.recall(world.oracle())
    return (
        f"{name:<22}{len(chosen):>10}{len(scores) / len(chosen):>11.1%}{violated:>11.1%}"
        f"{recall:>9.3f}{share:>11.1%}{1000 * seconds:>9.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--mapie-resamples", type=int, default=100, help="for the slower methods")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 4000, 10_000])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for label, world in WORLDS.items():
        for size in options.sizes:
            generator = np.random.default_rng(options.seed)
            probabilities, labels = world.draw(generator, (size, options.resamples))
            positives = int(size * world.prevalence)
            oracle = world.recall(world.oracle())
            print(f"\n{label}: {size} records, about {positives} positives; oracle recall {oracle:.3f}")
            print(
                f"{'method':<22}{'resamples':>10}{'certified':>11}{'violated':>11}"
                f"{'recall':>9}{'of oracle':>11}{'ms each':>9}"
            )
            for name in METHODS:
                count = min(options.mapie_resamples, options.resamples) if name in SLOW else None
                print(row(world, name, probabilities[:, :count], labels[:, :count]), flush=True)


if __name__ == "__main__":
    main()

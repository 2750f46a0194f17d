"""How often certificates are violated: own and pooled ones, cross-fitted, in a world whose truth is known.

    OMP_NUM_THREADS=1 python bench/certificates.py --repetitions 1000

Each repetition draws calibration records (logits of 20 policies, windows and labels), fits calibration and thresholds as a
run does, and measures the true precision of what blocks on a large sample of the same world, weighted to the prevalence.
A certificate is violated if that precision is below 0.95. Policies differ in how well they separate, texts of more windows
score higher by chance, and some ordinary records are near misses of a policy.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from merchantguard.core.labels import LabelMatrix
from merchantguard.train.calibration.thresholds import Targets
from merchantguard.train.evaluation.decision_rule import DecisionRule
from merchantguard.train.evaluation.predictions import Predictions

TARGET = 0.95
POLICIES = 20
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """Logits (N, K), labels (N, K) and windows (N,) of records."""

    logits: Floats
    labels: NDArray[np.bool_]
    windows: NDArray[np.int64]


def _separation() -> Floats:
    return np.random.default_rng(0).uniform(4.0, 7.0, POLICIES)


@dataclass(frozen=True, slots=True)
class World:
    """Normal logits; `separation` (K,) is how much higher a violation scores, before noise of its own."""

    separation: Floats = field(default_factory=_separation)
    near_misses: float = 0.01
    growth: float = 0.5

    def draw(self, generator: np.random.Generator, violating: int, ordinary: int) -> Sample:
        """So many violating records, of one policy or two, and ordinary ones after them."""
        count = violating + ordinary
        labels = np.zeros((count, POLICIES), dtype=bool)
        rows = np.arange(violating)
        labels[rows, generator.integers(0, POLICIES, violating)] = True
        second = rows[generator.random(violating) < 0.15]
        labels[second, generator.integers(0, POLICIES, len(second))] = True
        windows = np.minimum(generator.geometric(0.4, count), 64)
        logits = generator.standard_normal(labels.shape) + self.growth * np.log(windows)[:, None]
        logits += np.where(labels, self.separation + generator.normal(0.0, 1.0, labels.shape), 0.0)
        near = violating + np.flatnonzero(generator.random(ordinary) < self.near_misses)
        policies = generator.integers(0, POLICIES, len(near))
        logits[near, policies] += 0.5 * self.separation[policies]
        return Sample(1.4 * logits - 4.0, labels, windows)


@dataclass(frozen=True, slots=True)
class Truth:
    """A large sample to measure on, of violating records and of the ordinary ones with the highest logits.

    The others are blocked by no threshold that is certified; they count in `ordinary` only.
    """

    violating: Sample
    suspicious: Sample
    ordinary: int

    @classmethod
    def draw(cls, world: World, *, violating: int, ordinary: int, kept: float, seed: int = 1) -> "Truth":
        generator = np.random.default_rng(seed)
        some = world.draw(generator, violating, 0)
        parts, chunk = [], 50_000
        for _ in range(0, ordinary, chunk):
            part = world.draw(generator, 0, chunk)
            top = part.logits.max(axis=1)
            rows = np.flatnonzero(top >= np.quantile(top, 1.0 - kept))
            parts.append(Sample(part.logits[rows], part.labels[rows], part.windows[rows]))
        joined = Sample(*(np.concatenate([getattr(p, name) for p in parts]) for name in Sample.__slots__))
        return cls(some, joined, chunk * len(range(0, ordinary, chunk)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One repetition: the pooled certificate (recall and true precision, None without one) and the policies' own."""

    pooled: tuple[float, float] | None
    own: int
    own_violated: int
    calibrated: float


def repeat(
    seed: int, world: World, truth: Truth, violating: int, ordinary: int, prevalence: float
) -> Outcome:
    """Fit on fresh calibration records, and measure on the truth."""
    drawn = world.draw(np.random.default_rng(1_000 + seed), violating, ordinary)
    count = len(drawn.labels)
    order = np.random.default_rng(seed).permutation(count)
    predictions = Predictions(
        ids=tuple(map(str, range(count))),
        logits=drawn.logits[order].astype(np.float32),
        labels=LabelMatrix(drawn.labels[order], np.ones(drawn.labels.shape, dtype=bool)),
        domains=tuple(f"{seed}-{row}.example" for row in range(count)),
        slices={},
        texts=("",) * count,
        windows=drawn.windows[order],
    )
    names = [str(policy) for policy in range(POLICIES)]
    rule = DecisionRule.fit(predictions, Targets(prevalence=prevalence), names)
    found = rule.calibration.probabilities(truth.violating.logits, truth.violating.windows)
    alarms = rule.calibration.probabilities(truth.suspicious.logits, truth.suspicious.windows)
    scopes = np.array([each.block_certificate.scope for each in rule.thresholds])
    blocks = np.array([np.inf if each.block is None else each.block for each in rule.thresholds], np.float32)
    hits, wrong = found.policies >= blocks, alarms.policies >= blocks
    pooled, own = (scopes == "pooled") & np.isfinite(blocks), (scopes == "policy") & np.isfinite(blocks)
    shares = truth.violating.labels.mean(axis=0)
    violated = 0
    for k in np.flatnonzero(own):
        right = prevalence * (hits[:, k] & truth.violating.labels[:, k]).mean()
        others = prevalence * (hits[:, k] & ~truth.violating.labels[:, k]).mean()
        mistaken = others + (1 - prevalence) * wrong[:, k].sum() / truth.ordinary
        violated += right < TARGET * (right + mistaken) or not shares[k]
    result = None
    if pooled.any():
        recall = float(hits[:, pooled].any(axis=1).mean())
        share = float(wrong[:, pooled].any(axis=1).sum() / truth.ordinary)
        result = recall, prevalence * recall / max(prevalence * recall + (1 - prevalence) * share, 1e-12)
    mean = prevalence * float(found.any_violation.mean())
    mean += (1 - prevalence) * float(alarms.any_violation.sum()) / truth.ordinary
    return Outcome(result, int(own.sum()), int(violated), mean)


def summary(outcomes: Sequence[Outcome], title: str) -> str:
    """One line of figures."""
    pooled = [each.pooled for each in outcomes if each.pooled is not None]
    bad = sum(precision < TARGET for _, precision in pooled)
    own, own_bad = sum(each.own for each in outcomes), sum(each.own_violated for each in outcomes)
    recall = np.mean([recall for recall, _ in pooled]) if pooled else 0.0
    return (
        f"{title:<34}{len(outcomes):>6}{len(pooled) / len(outcomes):>10.1%}{bad / len(outcomes):>11.1%}{recall:>9.2f}"
        f"{own / len(outcomes) / POLICIES:>10.1%}{own_bad / len(outcomes) / POLICIES:>11.2%}"
        f"{np.mean([each.calibrated for each in outcomes]):>11.4f}"
    )


def simulate(
    repetitions: int,
    *,
    violating: int,
    ordinary: int,
    prevalence: float,
    workers: int = 1,
    truth: int = 1_000_000,
) -> list[Outcome]:
    """Repetitions of one setting, in several processes."""
    world = World()
    kept = 0.02 if prevalence < 0.1 else 0.5
    measured = Truth.draw(
        world, violating=20_000, ordinary=truth if prevalence < 0.1 else truth // 20, kept=kept
    )
    work = partial(
        repeat, world=world, truth=measured, violating=violating, ordinary=ordinary, prevalence=prevalence
    )
    if workers == 1:
        return [work(seed) for seed in range(repetitions)]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(work, range(repetitions), chunksize=5))


SETTINGS = ((0.02, 600, 600), (0.02, 600, 4_000), (0.02, 600, 8_000), (0.5, 600, 600), (0.5, 2_000, 2_000))


def main() -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(
        f"{'prevalence, violating, ordinary':<34}{'times':>6}{'pooled':>10}{'violated':>11}{'recall':>9}{'own':>10}"
        f"{'violated':>11}{'mean any':>11}"
    )
    for prevalence, violating, ordinary in SETTINGS:
        outcomes = simulate(
            options.repetitions,
            violating=violating,
            ordinary=ordinary,
            prevalence=prevalence,
            workers=options.workers,
        )
        print(summary(outcomes, f"{prevalence:g}, {violating:,}, {ordinary:,}"), flush=True)


if __name__ == "__main__":
    main()

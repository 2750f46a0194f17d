"""A cheap first stage that clears what is surely compliant, with a certificate of what it may lose.

The first stage is the model's own n-gram branch: a thousandth of the encoder's arithmetic. Its score of a violating
text falls below the limit with at most the stated probability: the limit is an order statistic of the scores of
violating texts that nothing was fitted on (a tolerance limit; Wilks 1941), so no shape of their distribution is assumed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import BundleError
from .bundle import Bundle, FirstStage
from .engine.batching import WindowRunner
from .engine.onnx_model import Floats, OnnxModel
from .engine.workers import Workers
from .preprocess import Reading

# Of the first stage one run is short: what it costs to start one counts for more.
_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class LossCertificate:
    """With `confidence`, at most `loss` of violating texts score below `limit`: of the `violating` calibration texts
    `below` did. `least` is the smallest loss that so many texts can certify."""

    limit: float
    loss: float
    confidence: float
    violating: int
    below: int
    least: float


class Cascade:
    """The first stage of a bundle at a certified limit. Threads may share it."""

    def __init__(self, runner: WindowRunner, certificate: LossCertificate) -> None:
        self.certificate = certificate
        self._runner = runner

    @classmethod
    def load(cls, bundle: Bundle, *, loss: float, workers: int, pad_id: int) -> "Cascade":
        """Open the bundle's first stage.

        :param loss: share of violating texts that may be lost.
        :raises BundleError: if the bundle has no first stage, or too few texts to certify such a loss.
        """
        stage = bundle.first_stage
        if stage is None:
            raise BundleError(
                f"{bundle.path}: has no first stage; export again, with --stream or from a run with model.ngram_buckets"
            )
        model = OnnxModel(bundle.path / stage.graph, pooling="max", policies=1, threads=1)
        runner = WindowRunner(model, Workers(workers), pad_id=pad_id, window_tokens=bundle.window_tokens)
        return cls(runner, certify_loss(stage, loss, place=str(bundle.path)))

    def clears(self, readings: Sequence[Reading]) -> list[bool]:
        """Of each text whether the first stage clears it: every window scores below the limit."""
        return (first_stage_scores(self._runner, readings) < self.certificate.limit).tolist()


def first_stage_scores(runner: WindowRunner, readings: Sequence[Reading]) -> Floats:
    """Score (N,) of each text: that of its most suspicious window."""
    windows = [ids for reading in readings for ids in reading.ids]
    scores = runner.run(windows, batch_tokens=_BATCH_TOKENS).logits
    starts = np.cumsum([0, *(len(reading.ids) for reading in readings)])[:-1]
    return np.asarray(np.maximum.reduceat(scores[:, 0], starts), dtype=np.float32)


def certify_loss(stage: FirstStage, loss: float, *, place: str) -> LossCertificate:
    """The highest limit that the stage's violating calibration texts certify for a loss.

    :raises BundleError: if they are too few.
    :raises ValueError: if `loss` is no share.
    """
    if not 0.0 < loss < 1.0:
        raise ValueError(f"loss is {loss}; it is a share between 0 and 1, such as 0.02")
    count = len(stage.violating_scores)
    least = least_loss(count, stage.confidence)
    below = allowed_below(count, loss, stage.confidence)
    if below is None:
        raise BundleError(
            f"{place}: a loss of {loss:.2%} cannot be certified: {count} violating calibration texts certify "
            f"{least:.2%} at least; ask for that, or calibrate on more"
        )
    return LossCertificate(
        limit=stage.violating_scores[below],
        loss=loss,
        confidence=stage.confidence,
        violating=count,
        below=below,
        least=least,
    )


def least_loss(count: int, confidence: float) -> float:
    """The smallest loss that `count` violating texts can certify; 1 without any."""
    return 1.0 - (1.0 - confidence) ** (1.0 / count) if count else 1.0


def allowed_below(count: int, loss: float, confidence: float) -> int | None:
    """How many of `count` texts may score below the limit: the largest k with P(Binomial(count, loss) <= k) at most
    1 - confidence; None where even none is too many."""
    log_odds = math.log(loss) - math.log1p(-loss)
    log_mass = count * math.log1p(-loss)
    total, allowed = math.exp(log_mass), None
    for k in range(count):
        if total > 1.0 - confidence:
            break
        allowed = k
        log_mass += log_odds + math.log(count - k) - math.log(k + 1)
        total += math.exp(log_mass)
    return allowed

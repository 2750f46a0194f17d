"""A cheap first stage that clears what is surely compliant, with a certificate of how many violations it may lose.

The first stage is an n-gram branch: a thousandth of the encoder's arithmetic. A violating text scores below the limit
with at most the stated probability: the limit is an order statistic of the scores of violating texts that nothing was
fitted on (a tolerance limit; Wilks 1941), so it assumes nothing about the shape of their distribution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import BundleError
from .bundle import Bundle, CascadeStage
from .engine.batching import WindowRunner
from .engine.onnx_model import Floats, OnnxModel
from .engine.workers import Workers
from .preprocess import EncodedText

# A run of the first stage is short, so the cost of starting one counts for more.
_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class LossCertificate:
    """With `confidence`, at most the share `loss` of violating texts scores below `limit`.

    :param violating: number of violating calibration texts, of which `below` score below the limit.
    :param least: the smallest loss that this number of texts can certify.
    """

    limit: float
    loss: float
    confidence: float
    violating: int
    below: int
    least: float


class StageScorer:
    """Scores texts by the graph of a cascade's first stage. Threads may share it."""

    def __init__(self, bundle: Bundle, graph: str, *, workers: int, pad_id: int) -> None:
        """Open a graph in the folder of a bundle.

        :raises BundleError: if it cannot be loaded.
        """
        model = OnnxModel(bundle.path / graph, pooling="max", policies=1, threads=1)
        self._runner = WindowRunner(
            model, Workers(workers), pad_id=pad_id, window_tokens=bundle.window_tokens
        )

    def scores(self, texts: Sequence[EncodedText]) -> Floats:
        """Score (N,) of each text: that of its most suspicious window."""
        windows = [ids for encoded in texts for ids in encoded.ids]
        scores = self._runner.run(windows, batch_tokens=_BATCH_TOKENS).logits
        starts = np.cumsum([0, *(len(encoded.ids) for encoded in texts)])[:-1]
        return np.asarray(np.maximum.reduceat(scores[:, 0], starts), dtype=np.float32)


class Cascade:
    """The first stage of a bundle at a certified limit. Threads may share it."""

    def __init__(self, scorer: StageScorer, certificate: LossCertificate) -> None:
        self.certificate = certificate
        self._scorer = scorer

    @classmethod
    def load(cls, bundle: Bundle, *, loss: float, workers: int, pad_id: int) -> "Cascade":
        """Open the bundle's first stage.

        :param loss: share of violating texts that may be lost.
        :raises BundleError: if the bundle has no first stage, or too few texts to certify such a loss.
        """
        stage = bundle.cascade
        if stage is None:
            raise BundleError(
                f"{bundle.path}: has no first stage; export again, with --stream or from a run with model.ngram_buckets"
            )
        scorer = StageScorer(bundle, stage.graph, workers=workers, pad_id=pad_id)
        return cls(scorer, certify_loss(stage, loss, place=str(bundle.path)))

    def clears(self, texts: Sequence[EncodedText]) -> list[bool]:
        """Whether the first stage clears each text: all its windows score below the limit."""
        return (self._scorer.scores(texts) < self.certificate.limit).tolist()


def certify_loss(stage: CascadeStage, loss: float, *, place: str) -> LossCertificate:
    """The highest limit that the stage's violating calibration texts certify for a loss.

    :raises BundleError: if they are too few.
    :raises ValueError: if `loss` is not between 0 and 1.
    """
    if not 0.0 < loss < 1.0:
        raise ValueError(f"loss is {loss}; it is a share between 0 and 1, such as 0.02")
    count = len(stage.violating_scores)
    least = least_loss(count, stage.confidence)
    below = allowed_below(count, loss, stage.confidence)
    if below is None:
        raise BundleError(
            f"{place}: a loss of {loss:.2%} cannot be certified: {count} violating calibration texts certify "
            f"{least:.2%} at least; allow that much, or calibrate on more texts"
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
    """How many of `count` texts may score below the limit; None where not even k = 0 is certified.

    It is the largest k with P(Binomial(count, loss) <= k) at most 1 - confidence.
    """
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

"""How many labels are still wrong in cells that nobody has reviewed, estimated from the random controls among the items.

Controls are drawn from all labelled cells with known inclusion probabilities (`Item.inclusion_probability`), which are higher
where a label error is likelier. The controls in cells that the queues of suspects have not reached are a sample of exactly these
cells: each answered one represents 1 / inclusion probability of them, and the controls not yet answered (Horvitz & Thompson
1952). What reviewers overlook or report wrongly is corrected by their answers on gold items (Rogan & Gladen 1978), as far as
those are no easier than the rest. All bounds come from one melded interval.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import Confidence, Floats, Interval, share_confidence, weighted_count_confidence

DRAWS = 4_000
CONTROLS_PER_BAND = 20
# Below it, a reviewer's answers say next to nothing about the truth.
_LEAST_ACCURACY = 0.2

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """The N controls with one given label in cells that no queue has reached: `cells` that each represents, probability of a
    label error, whether it is decided, and whether its label was wrong."""

    cells: Floats
    p_label_error: Floats
    decided: Bools
    wrong: Bools


@dataclass(frozen=True, slots=True)
class ReviewerAccuracy:
    """Answers on gold items, by whether the policy holds: how many there are and how many were right."""

    holds: int = 0
    holds_right: int = 0
    not_holding: int = 0
    not_holding_right: int = 0


@dataclass(frozen=True, slots=True)
class Remaining:
    """Errors `left` among `cells` that nobody has reviewed (also an estimate)."""

    left: Interval
    cells: float


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    errors: Confidence
    cells: float


def errors_left(
    controls: dict[bool, Controls], accuracy: ReviewerAccuracy, *, seed: int = 0
) -> Remaining | None:
    """Estimate the errors left; None if the controls of a given label have no answer yet.

    :param controls: by given label.
    """
    generator = np.random.default_rng(seed)
    parts = []
    for given, drawn in controls.items():
        if not len(drawn.cells):
            continue
        if not drawn.decided.any():
            return None
        apparent = _apparent(drawn, generator)
        parts.append(_Part(_corrected(apparent, given, accuracy, generator), apparent.cells))
    if not parts:
        return None
    total = Confidence(
        sum(part.errors.point for part in parts),
        np.sum([part.errors.low for part in parts], axis=0),
        np.sum([part.errors.high for part in parts], axis=0),
    )
    return Remaining(total.interval(), sum(part.cells for part in parts))


def _apparent(controls: Controls, generator: np.random.Generator) -> _Part:
    """Errors left as the reviewers would report them, and the number of cells they are in."""
    edges = _band_edges(controls.p_label_error[controls.decided])
    band = np.searchsorted(edges, controls.p_label_error, side="right")
    weights, variances, cells = [], [], 0.0
    for number in range(len(edges) + 1):
        here = band == number
        answered = here & controls.decided
        undecided = max(controls.cells[here].sum() - answered.sum(), 0.0)
        represented = controls.cells[answered] * (undecided / controls.cells[answered].sum())
        wrong = controls.wrong[answered]
        rate = float((represented * wrong).sum() / undecided) if undecided else 0.0
        weights.append(represented[wrong])
        # Variance of the sampled rate and of the binomial draw in the cells it is applied to.
        variances.append(represented[wrong] * (represented[wrong] + 1.0) * (1.0 - rate))
        cells += float(undecided)
    # The weight of an error that no control happened to hit: error rates fall from band to band with the probability of a label
    # error, so at worst all cells are wrong at one rate, which all answered controls together bound.
    largest = cells / int(controls.decided.sum())
    errors = weighted_count_confidence(
        np.concatenate(weights), np.concatenate(variances), largest, generator, DRAWS
    )
    return _Part(errors, cells)


def _band_edges(p_label_error: Floats) -> Floats:
    """Bounds between bands of about `CONTROLS_PER_BAND` answered controls; equal probabilities stay together."""
    values = np.sort(p_label_error)
    starts = np.arange(1, len(values) // CONTROLS_PER_BAND) * CONTROLS_PER_BAND
    return np.unique(values[starts][values[starts] > values[0]])


def _corrected(
    part: _Part, given: bool, accuracy: ReviewerAccuracy, generator: np.random.Generator
) -> Confidence:
    """The true count x that solves reported = seen * x + alarms * (cells - x), with the rates of errors seen and of false alarms.

    A review is blind: where the label is not given, an error is seen by finding the policy, and vice versa.
    """
    if given:
        seen = _rate(accuracy.not_holding_right, accuracy.not_holding, 1.0, generator)
        alarms = _rate(accuracy.holds - accuracy.holds_right, accuracy.holds, 0.0, generator)
    else:
        seen = _rate(accuracy.holds_right, accuracy.holds, 1.0, generator)
        alarms = _rate(
            accuracy.not_holding - accuracy.not_holding_right, accuracy.not_holding, 0.0, generator
        )

    def true(reported: Floats, seen: Floats, alarms: Floats) -> Floats:
        gain = np.maximum(seen - alarms, _LEAST_ACCURACY)
        result: Floats = np.clip((reported - alarms * part.cells) / gain, 0.0, part.cells)
        return result

    point = true(np.array([part.errors.point]), np.array([seen.point]), np.array([alarms.point]))
    return Confidence(
        float(point[0]),
        true(part.errors.low, seen.high, alarms.high),
        true(part.errors.high, seen.low, alarms.low),
    )


def _rate(count: int, of: int, assumed: float, generator: np.random.Generator) -> Confidence:
    """A reviewer's rate; without gold items the assumed one, with certainty."""
    if not of:
        return Confidence(assumed, np.full(DRAWS, assumed), np.full(DRAWS, assumed))
    return share_confidence(count, of, generator, DRAWS)

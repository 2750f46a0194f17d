"""How many labels are still wrong in cells that nobody has looked at, from the random controls among the items.

Controls are drawn from all known cells with a known probability (`Item.share`), more densely where a label is more
suspicious. Those in cells that the queues of suspects have not reached are a sample of just these cells: each that was answered
stands for 1 / share of them and for the controls not yet answered (Horvitz & Thompson 1952). What reviewers overlook or
report without need is corrected by their answers on planted items (Rogan & Gladen 1978), as far as those are no easier than
the rest. All ends come from one melded interval.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import Confidence, Floats, Interval, share_confidence, weighted_count_confidence

DRAWS = 4_000
CONTROLS_PER_BAND = 20
# Under it, a reviewer's answers say next to nothing of the truth.
_LEAST_SKILL = 0.2

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """The controls of one given label in cells that no queue has reached, N of them: `cells` that each stands for,
    suspicion, and the answers."""

    cells: Floats
    suspicion: Floats
    decided: Bools
    wrong: Bools


@dataclass(frozen=True, slots=True)
class Skill:
    """Answers on planted items: of those where the policy holds and where it does not, how many were right."""

    holds: int = 0
    holds_right: int = 0
    holds_not: int = 0
    holds_not_right: int = 0


@dataclass(frozen=True, slots=True)
class Remaining:
    """Errors `left` among `cells` that nobody looked at (an estimate too)."""

    left: Interval
    cells: float


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    errors: Confidence
    cells: float


def errors_left(controls: dict[bool, Controls], skill: Skill, *, seed: int = 0) -> Remaining | None:
    """Estimate the errors left; None while one given label has controls but no answer on any of them.

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
        parts.append(_Part(_corrected(apparent, given, skill, generator), apparent.cells))
    if not parts:
        return None
    total = Confidence(
        sum(part.errors.point for part in parts),
        np.sum([part.errors.low for part in parts], axis=0),
        np.sum([part.errors.high for part in parts], axis=0),
    )
    return Remaining(total.interval(), sum(part.cells for part in parts))


def _apparent(controls: Controls, generator: np.random.Generator) -> _Part:
    """Errors left as the reviewers would report them, and the cells that they are left in."""
    edges = _band_edges(controls.suspicion[controls.decided])
    band = np.searchsorted(edges, controls.suspicion, side="right")
    weights, variances, cells = [], [], 0.0
    for number in range(len(edges) + 1):
        here = band == number
        answered = here & controls.decided
        undecided = max(controls.cells[here].sum() - answered.sum(), 0.0)
        stands = controls.cells[answered] * (undecided / controls.cells[answered].sum())
        wrong = controls.wrong[answered]
        rate = float((stands * wrong).sum() / undecided) if undecided else 0.0
        weights.append(stands[wrong])
        # Of the sampled rate and of the binomial draw in the cells it is applied to.
        variances.append(stands[wrong] * (stands[wrong] + 1.0) * (1.0 - rate))
        cells += float(undecided)
    # What an error nobody happened to see stands for: suspicion falls from band to band and error rates with it, so at
    # worst all cells are wrong at one rate, which all answered controls together bound.
    largest = cells / int(controls.decided.sum())
    errors = weighted_count_confidence(
        np.concatenate(weights), np.concatenate(variances), largest, generator, DRAWS
    )
    return _Part(errors, cells)


def _band_edges(suspicion: Floats) -> Floats:
    """Bounds between bands of about `CONTROLS_PER_BAND` answered controls; equal suspicions stay together."""
    values = np.sort(suspicion)
    starts = np.arange(1, len(values) // CONTROLS_PER_BAND) * CONTROLS_PER_BAND
    return np.unique(values[starts][values[starts] > values[0]])


def _corrected(part: _Part, given: bool, skill: Skill, generator: np.random.Generator) -> Confidence:
    """The true count x with reported = seen x + alarms (cells - x), for what reviewers see and falsely report.

    A review is blind: where the label was not given, an error is seen by finding the policy, and the other way round.
    """
    if given:
        seen = _rate(skill.holds_not_right, skill.holds_not, 1.0, generator)
        alarms = _rate(skill.holds - skill.holds_right, skill.holds, 0.0, generator)
    else:
        seen = _rate(skill.holds_right, skill.holds, 1.0, generator)
        alarms = _rate(skill.holds_not - skill.holds_not_right, skill.holds_not, 0.0, generator)

    def true(reported: Floats, seen: Floats, alarms: Floats) -> Floats:
        gain = np.maximum(seen - alarms, _LEAST_SKILL)
        result: Floats = np.clip((reported - alarms * part.cells) / gain, 0.0, part.cells)
        return result

    point = true(np.array([part.errors.point]), np.array([seen.point]), np.array([alarms.point]))
    return Confidence(
        float(point[0]),
        true(part.errors.low, seen.high, alarms.high),
        true(part.errors.high, seen.low, alarms.low),
    )


def _rate(count: int, of: int, assumed: float, generator: np.random.Generator) -> Confidence:
    """A reviewer's rate; with nothing planted the assumed one, for sure."""
    if not of:
        return Confidence(assumed, np.full(DRAWS, assumed), np.full(DRAWS, assumed))
    return share_confidence(count, of, generator, DRAWS)

"""What answers say of queues, reviewers and the errors left."""

from dataclasses import replace

import numpy as np
import pytest
from audit.estimates import WORLDS, Outcome, simulate

from merchantguard.audit.estimation.estimates import Estimator
from merchantguard.audit.estimation.intervals import Interval, share_interval, weighted_count_confidence
from merchantguard.audit.estimation.remaining import Remaining
from merchantguard.audit.estimation.stopping import StopRule, left_words
from merchantguard.audit.storage.items import Answer, AnswerKind, Item


def _item(record: str, cause: str, *, given: bool = True, **fields: object) -> Item:
    base = Item(record, "p", given, cause, p_label_error=0.5, model_probability=0.5, value=0.5)  # type: ignore[arg-type]
    return replace(base, **fields)  # type: ignore[arg-type]


def _answers(given: dict[str, AnswerKind], reviewer: str = "ann") -> list[Answer]:
    return [
        Answer(reviewer, record, "p", kind, "first", "2026-01-01T00:00:00Z", 6_000, "test", {}, number=number)
        for number, (record, kind) in enumerate(given.items(), start=1)
    ]


def test_shares_have_jeffreys_intervals() -> None:
    # Quantiles 0.025 and 0.975 of Beta(1.5, 9.5).
    interval = share_interval(1, 10, level=0.95)
    assert (round(interval.low, 3), round(interval.high, 3)) == (0.011, 0.381)
    assert share_interval(0, 10).low == 0.0
    assert share_interval(10, 10).high == 1.0
    assert share_interval(0, 0).high == 1.0


def test_no_event_seen_leaves_three_weights_at_most() -> None:
    draws = weighted_count_confidence([], [], 50.0, np.random.default_rng(0), 20_000)
    assert draws.point == 0.0
    assert draws.interval().low == 0.0
    # The rule of three: -ln(0.05) = 3.0 events of weight 50.
    assert draws.interval().high == pytest.approx(150, rel=0.05)


def test_a_queue_counts_what_was_decided_against_the_label() -> None:
    items = [_item(f"r{n}", "wrong_positive") for n in range(4)]
    answers = _answers({"r0": "has_not", "r1": "has", "r2": "cannot_tell"})
    found = Estimator(items).estimate(answers)
    (queue,) = found.queues
    assert (queue.cause, queue.decided, queue.wrong, queue.waiting) == ("wrong_positive", 2, 1, 1)
    assert queue.precision.low < 0.5 < queue.precision.high
    assert (found.decided, found.wrong, found.disputed) == (2, 1, 0)
    assert found.next_items == 1
    assert not found.stop


def test_reviewers_are_measured_on_gold_items_and_an_answer_taken_back_does_not_count() -> None:
    items = [_item(f"r{n}", "gold", gold_answer=n < 2) for n in range(4)]
    answers = _answers({"r0": "has", "r1": "has_not", "r2": "has_not", "r3": "has"})
    undo = replace(answers[3], answer="undo", undoes=4, number=5)
    (reviewer,) = Estimator(items).estimate([*answers, undo]).reviewers
    assert (reviewer.gold, reviewer.right, reviewer.seconds) == (3, 2, 6.0)
    assert reviewer.accuracy.low < 2 / 3 < reviewer.accuracy.high


def test_each_control_stands_for_the_cells_it_was_drawn_from() -> None:
    controls = [_item(f"c{n}", "control", inclusion_probability=0.01) for n in range(50)]
    answers = _answers({f"c{n}": "has_not" if n < 5 else "has" for n in range(50)})
    found = Estimator(controls).estimate(answers)
    remaining = found.remaining
    assert remaining is not None
    # 5 of 50 stand for 500 of 5,000 cells, less the 50 that are decided now.
    assert remaining.cells == pytest.approx(4_950)
    assert remaining.left.point == pytest.approx(495)
    assert remaining.left.low < 300
    # Suspicion expected 25 wrong of the 50, borne out by 5: with one error's trust in the scan (5 + 1) / (25 + 1).
    assert found.expected_left == pytest.approx(4_950 * 0.5 * 6 / 26)
    assert remaining.left.high > 800


def test_controls_speak_of_the_cells_that_no_queue_has_reached() -> None:
    suspects = [_item(f"r{n}", "wrong_positive", value=float(100 - n)) for n in range(100)]
    controls = [_item(f"r{n}", "control", inclusion_probability=0.1) for n in range(0, 200, 10)]
    looked = [
        replace(answer, shown={"cause": "wrong_positive"})
        for answer in _answers({f"r{n}": "has_not" for n in range(50) if n != 20})
    ]
    # r20 was met as a control, and its queue has passed it since; r60 was met as one, its queue is not there yet.
    met = [
        replace(answer, number=answer.number + 100, shown={"cause": "control"})
        for answer in _answers(
            {"r20": "has_not", "r60": "has_not"} | {f"r{n}": "has" for n in range(100, 150, 10)}
        )
    ]
    remaining = Estimator([*suspects, *controls]).estimate([*looked, *met]).remaining
    assert remaining is not None
    # Controls r50, r60 ... r190 stand for the 150 unreached cells; 6 of them are answered, one of these was wrong.
    assert remaining.cells == pytest.approx(150 - 6)
    assert remaining.left.point == pytest.approx((150 - 6) / 6)


def test_errors_left_are_unknown_until_a_control_is_answered() -> None:
    items = [_item("c", "control", inclusion_probability=0.1), _item("r", "wrong_positive")]
    assert Estimator(items).estimate(_answers({"r": "has"})).remaining is None


def test_it_says_stop_when_looking_no_longer_pays_or_little_is_left() -> None:
    suspects = [_item(f"r{n}", "wrong_positive", p_label_error=0.01) for n in range(300)]
    controls = [_item(f"c{n}", "control", inclusion_probability=0.5) for n in range(400)]
    looked = _answers({f"r{n}": "has" for n in range(60)} | {f"c{n}": "has" for n in range(400)})
    found = Estimator([*suspects, *controls]).estimate(looked, StopRule(0.1, share_left=0.0))
    assert found.stop
    assert "fewer than 0.1 a minute" in found.advice
    found = Estimator([*suspects, *controls]).estimate(looked, StopRule(0.0, share_left=0.02))
    assert found.stop
    assert "fewer labels are wrong than the target of 2 %" in found.advice
    found = Estimator([*suspects, *controls]).estimate(looked[:10], StopRule(0.1, 0.02))
    assert not found.stop
    found = Estimator(suspects[:60]).estimate(looked)
    assert found.stop
    assert found.advice.startswith("Stop: every label that the scan lists is checked.")


@pytest.mark.parametrize(
    ("expected", "low", "high", "said"),
    [
        (15.0, 0.0, 4_525.0, "too few to confirm it: they would allow up to 4,525. Answer more of them"),
        (15.0, 5.0, 30.0, "The 40 random checks answered so far agree: 5 to 30."),
        (15.0, 60.0, 300.0, "point to more, 60 to 300: the scan overlooks"),
        (50.0, 0.0, 20.0, "point to fewer, 0 to 20."),
    ],
)
def test_the_errors_left_come_with_what_to_do_next(
    expected: float, low: float, high: float, said: str
) -> None:
    words = left_words(Remaining(Interval(low, low, high), 6_000.0), expected, 40)
    assert words.startswith(f"About {expected:.0f} of the 6,000 labels that nobody checked")
    assert said in words


def test_a_reviewer_who_misses_half_makes_twice_the_errors_likely() -> None:
    controls = [_item(f"c{n}", "control", given=False, inclusion_probability=0.1) for n in range(100)]
    gold_items = [_item(f"p{n}", "gold", gold_answer=True) for n in range(40)]
    answers = _answers(
        {f"c{n}": "has" if n < 10 else "has_not" for n in range(100)}
        | {f"p{n}": "has" if n < 20 else "has_not" for n in range(40)}
    )
    plain = Estimator(controls).estimate(answers[:100]).remaining
    corrected = Estimator([*controls, *gold_items]).estimate(answers).remaining
    assert plain is not None
    assert corrected is not None
    assert corrected.left.point == pytest.approx(2 * plain.left.point)
    assert corrected.left.high > plain.left.high


def test_the_interval_covers_the_truth_in_simulated_audits() -> None:
    outcomes: list[Outcome] = [simulate(world, seed) for world in WORLDS[::3] for seed in range(3)]
    covered = sum(outcome.low <= outcome.truth <= outcome.high for outcome in outcomes)
    assert covered >= 0.85 * len(outcomes)

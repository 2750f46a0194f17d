"""Asking: limits, the cache, faults of the endpoint, and a journal that a kill does not harm."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest_adjudicate import TAXONOMY, Endpoint, answered, completion, make_case, scores

from merchantguard.operate.adjudicate.adjudicator import Adjudicated, Adjudicator, Progress, Stopped
from merchantguard.operate.adjudicate.case import Case
from merchantguard.operate.adjudicate.journal import Journal, JournalError
from merchantguard.operate.adjudicate.providers.openai_compatible import OpenAICompatible
from merchantguard.operate.adjudicate.providers.protocol import Prices
from merchantguard.operate.adjudicate.providers.replay import Replay, transcript_lines
from merchantguard.operate.adjudicate.routing import Limits, ordered

QUOTE = "Buy R-140 trenbolone vials without a prescription"
GOOD = answered("violates", [QUOTE])
PRICES = Prices(1.0, 2.0)


def provider(endpoint: Endpoint, **given: Any) -> OpenAICompatible:
    return OpenAICompatible(
        **{"model": "build-1", "url": endpoint.url, "prices": PRICES, "retries": 2} | given
    )


def run(folder: Path, asked: Any, cases: list[Case], **given: Any) -> tuple[list[Adjudicated], Progress]:
    state = Progress()
    with Journal(folder) as journal:
        found = list(Adjudicator(asked, journal, TAXONOMY, scores, **given).run(cases, state))
    return found, state


def many(count: int) -> list[Case]:
    return [make_case(f"m{n}", text=make_case().text + f"Branch number {n}.") for n in range(count)]


def test_an_answer_is_paid_for_once(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.answers = [GOOD]
    first, state = run(tmp_path, provider(endpoint), many(3))
    assert [each.opinion.verdict for each in first] == ["violates"] * 3
    assert first[0].opinion.probability == pytest.approx(0.9)
    assert state.cost == pytest.approx(3 * (1000 + 2 * 100) / 1e6)
    again, state = run(tmp_path, provider(endpoint), many(3))
    assert (state.asked, state.cached, state.cost, endpoint.calls) == (0, 3, 0.0, 3)
    assert [each.opinion for each in again] == [each.opinion for each in first]


def test_equal_texts_are_asked_about_once_even_in_parallel(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.answers = [GOOD]
    cases = [make_case(name) for name in "abcd"]
    found, state = run(tmp_path, provider(endpoint), cases, parallel=4)
    assert (len(found), state.asked, state.cached, endpoint.calls) == (4, 1, 3, 1)


def test_another_build_or_text_is_another_question(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.answers = [GOOD, answered("violates", [QUOTE], model="build-2")]
    run(tmp_path, provider(endpoint), [make_case()])
    found, state = run(tmp_path, provider(endpoint, model="build-2"), [make_case()])
    assert state.asked == 1
    assert found[0].opinion.proven


def test_an_answer_of_another_build_than_the_pinned_one_does_not_count(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    endpoint.answers = [answered("violates", [QUOTE], model="build-1-turbo")]
    [found], _ = run(tmp_path, provider(endpoint), [make_case()])
    assert found.opinion.verdict == "cannot tell"
    assert "build-1-turbo" in found.opinion.faults[-1]


@pytest.mark.parametrize(
    ("limits", "asked", "reason"),
    [
        (Limits(a_day=2), 2, "questions a day"),
        (Limits(largest_amount=10.0), 3, "amount of money"),
        (Limits(money=0.0052), 2, "money"),
    ],
)
def test_limits_hold_and_what_is_left_is_counted(
    tmp_path: Path, endpoint: Endpoint, limits: Limits, asked: int, reason: str
) -> None:
    endpoint.answers = [GOOD]
    cases = many(5)
    cases[3:] = [replace(case, amount=50.0) for case in cases[3:]]
    _, state = run(tmp_path, provider(endpoint), cases, limits=limits)
    if reason == "money":
        assert 1 <= state.asked < 5
        assert state.cost <= limits.money
    else:
        assert state.asked == asked
    assert state.left_over == {reason: 5 - state.asked}


def test_a_merchant_has_its_own_limit(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.answers = [GOOD]
    cases = [replace(case, merchant="one") for case in many(3)] + [make_case("other")]
    _, state = run(tmp_path, provider(endpoint), cases, limits=Limits(a_merchant=1))
    assert state.asked == 2


def test_the_most_uncertain_and_dearest_come_first() -> None:
    cases = [
        make_case("a", probability=0.01),
        make_case("b", probability=0.5),
        make_case("c", probability=0.5, amount=900.0),
    ]
    assert [case.record for case in ordered(cases)] == ["c", "b", "a"]


def test_a_429_is_tried_again(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.answers = [lambda body: (429, {"error": {"message": "slow down"}}), GOOD]
    found, state = run(tmp_path, provider(endpoint), [make_case()])
    assert found[0].opinion.proven
    assert (state.failed, endpoint.calls) == (0, 2)


def test_where_the_provider_is_down_the_run_stops_and_goes_on_later(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    down = OpenAICompatible("build-1", url="http://127.0.0.1:9/v1", prices=PRICES, retries=0)
    with pytest.raises(Stopped, match="3 questions in a row"):
        run(tmp_path, down, many(6), give_up=3)
    endpoint.answers = [GOOD]
    found, state = run(tmp_path, provider(endpoint), many(6))
    assert (len(found), state.asked) == (6, 6)
    with Journal(tmp_path) as journal:
        assert journal.usage().cost == pytest.approx(6 * PRICES.cost(1000, 100))


@pytest.mark.parametrize(
    "document",
    [
        completion(""),
        completion("not json"),
        completion('{"verdict": "viol', finish="length"),
        {"id": "c", "object": "chat.completion", "created": 1, "model": "build-1", "choices": []},
        completion('{"verdict": "compliant", "quotes": [], "end_code": "x"}', finish="content_filter"),
    ],
)
def test_a_bad_answer_is_kept_and_counts_as_cannot_tell(
    tmp_path: Path, endpoint: Endpoint, document: Any
) -> None:
    endpoint.answers = [lambda body: (200, document)]
    [found], _ = run(tmp_path, provider(endpoint), [make_case()])
    assert found.opinion.verdict == "cannot tell"
    assert found.opinion.faults
    _, state = run(tmp_path, provider(endpoint), [make_case()])
    assert (state.cached, endpoint.calls) == (1, 1)


def test_a_torn_last_line_is_dropped_and_other_damage_is_named(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.answers = [GOOD]
    run(tmp_path, provider(endpoint), many(2))
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type": "replied", "ke')
    _, state = run(tmp_path, provider(endpoint), many(2))
    assert state.cached == 2
    assert path.read_bytes() == whole
    path.write_bytes(b"x" + whole)
    with pytest.raises(JournalError, match=r"journal\.jsonl:1"):
        Journal(tmp_path)


def test_two_processes_do_not_write_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(JournalError, match="another process"):
        Journal(tmp_path)


def test_transcripts_are_replayed_and_a_changed_prompt_has_no_answer(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    endpoint.answers = [GOOD]
    found, _ = run(tmp_path / "a", provider(endpoint), [make_case()])
    path = tmp_path / "t.jsonl"
    path.write_text(transcript_lines((each.question, each.build, each.reply) for each in found))
    assert "trenbolone vials without" not in path.read_text().replace(QUOTE, "")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "secret").write_bytes((tmp_path / "a" / "secret").read_bytes())
    again, _ = run(tmp_path / "b", Replay.read(path), [make_case()])
    assert again[0].opinion == found[0].opinion
    _, state = run(tmp_path / "c", Replay.read(path), [make_case()])
    assert state.failed == 1


_CHILD = """
import sys
sys.path.insert(0, sys.argv[3])
import conftest as conftest_adjudicate
from pathlib import Path
from test_asking import many, run
from merchantguard.operate.adjudicate.providers.openai_compatible import OpenAICompatible
from merchantguard.operate.adjudicate.providers.protocol import Prices
run(Path(sys.argv[1]), OpenAICompatible("build-1", url=sys.argv[2], prices=Prices(1.0, 2.0), retries=0), many(12), parallel=3)
"""


def test_kill_9_loses_nothing_and_pays_for_nothing_twice(tmp_path: Path, endpoint: Endpoint) -> None:
    def slow(body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(0.05)
        return GOOD(body)

    endpoint.answers = [slow]
    folder = tmp_path / "j"
    for least in (3, 7):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(folder), endpoint.url, str(Path(__file__).parent)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        while endpoint.calls < least and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    lines = [
        json.loads(line)
        for line in (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    ]
    kept = {line["key"] for line in lines if line["type"] == "replied"}
    found, state = run(folder, provider(endpoint), many(12))
    assert len(found) == 12
    assert state.cached == len(kept)
    # Billed by idempotency key: a question that was on its way when the process died is not charged again.
    assert len(endpoint.billed) == 12
    with Journal(folder) as journal:
        assert journal.open_questions == 0
        assert journal.usage().cost == pytest.approx(12 * PRICES.cost(1000, 100))

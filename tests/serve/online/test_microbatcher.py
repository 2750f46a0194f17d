import asyncio
import gc
import os
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

import pytest

from merchantguard.serve import (
    Assessment,
    BatcherClosed,
    DeadlineExceeded,
    EvidenceOptions,
    MicroBatcher,
    QueueFull,
    Scorer,
)
from merchantguard.serve.bundle_reader import read_bundle
from merchantguard.serve.engine.onnx_model import Ids, OnnxModel, Outputs
from merchantguard.serve.postprocess import Postprocessor, ScoredText
from merchantguard.serve.preprocess import TextOutputs
from merchantguard.serve.scorer import load_tokenizer

from ..conftest import FILLER, TEXTS, same


class GatedModel:
    """The bundle's model behind a gate that a test opens; it can be made to fail."""

    def __init__(self, path: Path) -> None:
        bundle = read_bundle(path)
        self.inner = OnnxModel(path / "model.onnx", pooling="max", policies=len(bundle.policies), threads=1)
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.fault: Exception | None = None
        self.batches: list[Ids] = []

    def run(self, input_ids: Ids, attention_mask: Ids) -> Outputs:
        self.entered.release()
        assert self.gate.wait(30)
        self.batches.append(input_ids)
        if self.fault is not None:
            raise self.fault
        return self.inner.run(input_ids, attention_mask)


@pytest.fixture
def gated(bundle_path: Path) -> Iterator[tuple[GatedModel, Scorer]]:
    model, bundle = GatedModel(bundle_path), read_bundle(bundle_path)
    yield model, Scorer(bundle, model, load_tokenizer(bundle), evidence=EvidenceOptions(spans=0))
    model.gate.set()


def test_many_threads_get_what_the_scorer_says(bundle_path: Path) -> None:
    scorer = Scorer.load(bundle_path, threads=2)
    expected = [scorer.assess(text) for text in TEXTS]
    with MicroBatcher(scorer) as batcher, ThreadPoolExecutor(16) as clients:
        futures = [
            clients.submit(lambda row=row: batcher.submit(TEXTS[row]).result(30)) for row in range(5)
        ] * 40
        for row, future in enumerate(futures):
            assert same(future.result(30), expected[row % 5])
        stats = batcher.stats()
    assert stats.submitted == stats.outcomes["completed"] == 5
    assert (stats.queued_requests, stats.queued_tokens) == (0, 0)
    assert sum(stats.latency_seconds.counts) == 5
    assert 0 < stats.batch_fill.quantile(0.5) <= 1


def test_a_text_that_cannot_be_scored_fails_alone(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer.load(bundle_path, threads=1)
    score = Postprocessor.score

    def score_some(self: Postprocessor, outputs: TextOutputs) -> ScoredText:
        if outputs.encoded.raw == TEXTS[0]:
            raise ArithmeticError("not this one")
        return score(self, outputs)

    monkeypatch.setattr(Postprocessor, "score", score_some)
    with MicroBatcher(scorer) as batcher:
        futures = [batcher.submit(text) for text in TEXTS[:3]]
        with pytest.raises(ArithmeticError, match="not this one"):
            futures[0].result(30)
        assert [future.result(30).bundle for future in futures[1:]] == [scorer.bundle.label] * 2
        assert batcher.stats().outcomes["failed"] == 1


def test_coroutines_share_batches(gated: tuple[GatedModel, Scorer]) -> None:
    model, scorer = gated

    async def clients() -> list[Assessment]:
        with MicroBatcher(scorer) as batcher:
            first = asyncio.create_task(batcher.assess_async(TEXTS[0]))
            await asyncio.to_thread(model.entered.acquire)
            others = [asyncio.create_task(batcher.assess_async("Call us or write.")) for _ in range(20)]
            others.append(asyncio.create_task(batcher.assess_async("crimson " * 2000)))
            await asyncio.sleep(0.05)
            model.gate.set()
            return await asyncio.gather(first, *others)

    found = asyncio.run(clients())
    assert [each.decision for each in found] == ["block"] + ["clear"] * 20 + ["block"]
    assert max(len(batch) for batch in model.batches) >= 10, "waiting texts go together"


def test_a_full_queue_refuses_and_says_so(gated: tuple[GatedModel, Scorer]) -> None:
    model, scorer = gated
    with MicroBatcher(scorer, queue_tokens=40) as batcher:
        running = batcher.submit("one")
        model.entered.acquire()
        waiting = batcher.submit("Call us or write a letter, we answer within two days.")
        with pytest.raises(QueueFull, match="queue_tokens 40: try again later"):
            batcher.submit(FILLER * 4)
        assert batcher.stats().outcomes["rejected"] == 1
        model.gate.set()
        assert running.result(30).decision == waiting.result(30).decision == "clear"
        assert batcher.submit(FILLER * 30).result(30).windows == 8, "alone it may pass the limit"


def test_a_deadline_that_passes_costs_nothing(gated: tuple[GatedModel, Scorer]) -> None:
    model, scorer = gated
    scorer.runner.workers.count = 2
    with MicroBatcher(scorer) as batcher:
        running = batcher.submit("one")
        model.entered.acquire()
        other = batcher.submit("two")
        model.entered.acquire()
        late = batcher.submit("We sell crimson goods.", deadline=0.05)
        kept = batcher.submit("A walrus comes.", deadline=30)
        time.sleep(0.1)
        model.gate.set()
        with pytest.raises(DeadlineExceeded, match="longer than the deadline allows"):
            late.result(30)
        assert kept.result(30).decision == "review"
        wait_for([running, other])
        assert batcher.stats().outcomes["expired"] == 1
    assert sum(len(batch) for batch in model.batches) == 3


def test_a_cancelled_request_is_not_scored(gated: tuple[GatedModel, Scorer]) -> None:
    model, scorer = gated
    with MicroBatcher(scorer) as batcher:
        running = batcher.submit("one")
        model.entered.acquire()
        gone, kept = batcher.submit(FILLER * 40), batcher.submit("crimson")
        assert gone.cancel()
        assert not running.cancel()
        model.gate.set()
        assert kept.result(30).decision == "block"
        with pytest.raises(CancelledError):
            gone.result(0)
        assert batcher.stats().queued_tokens == 0
    assert batcher.stats().outcomes == {
        "completed": 2,
        "failed": 0,
        "cancelled": 1,
        "expired": 0,
        "rejected": 0,
    }
    assert len(model.batches) == 2


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_who_gives_up_gives_back_the_tokens_at_once(gated: tuple[GatedModel, Scorer], how: str) -> None:
    model, scorer = gated
    with MicroBatcher(scorer, queue_tokens=100) as batcher:
        running = batcher.submit("one")
        model.entered.acquire()
        waiting = [batcher.submit("two", deadline=0.05 if how == "expired" else None) for _ in range(20)]
        with pytest.raises(QueueFull):
            batcher.submit(FILLER * 40)
        if how == "expired":
            time.sleep(0.1)
        else:
            assert all(future.cancel() for future in waiting)
        # The engine is still busy.
        new = batcher.submit(FILLER * 40)
        assert batcher.stats().queued_requests == 1
        assert batcher.stats().outcomes[how] == 20
        assert len(wait_for(waiting, timeout=5).done) == 20
        model.gate.set()
        assert new.result(30).windows == 8
        running.result(30)
    assert sum(len(batch) for batch in model.batches) == 9


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_a_long_text_that_nobody_waits_for_stops_after_the_running_batch(
    gated: tuple[GatedModel, Scorer], how: str
) -> None:
    model, scorer = gated
    with MicroBatcher(scorer, batch_tokens=20) as batcher:
        long = batcher.submit(FILLER * 60, deadline=0.05 if how == "expired" else None)
        model.entered.acquire()
        if how == "expired":
            time.sleep(0.1)
        else:
            assert long.cancel()
        assert batcher.stats().queued_tokens == 0
        with pytest.raises(DeadlineExceeded if how == "expired" else CancelledError):
            long.result(5)
        model.gate.set()
        assert batcher.submit("crimson").result(30).decision == "block"
        assert batcher.stats().outcomes[how] == 1
    assert len(model.batches) == 2


@pytest.mark.parametrize("ending", ["answered", "cancelled", "failed"])
def test_the_model_goes_with_the_closed_batcher_without_the_garbage_collector(
    gated: tuple[GatedModel, Scorer], bundle_path: Path, ending: str
) -> None:
    gated[0].gate.set()
    model, bundle = GatedModel(bundle_path), read_bundle(bundle_path)
    model.fault = RuntimeError("out of memory") if ending == "failed" else None
    scorer = Scorer(bundle, model, load_tokenizer(bundle))
    gone = [weakref.ref(each) for each in (model, scorer)]
    gc.collect()
    gc.disable()
    try:
        batcher = MicroBatcher(scorer)
        gone.append(weakref.ref(batcher))
        futures = [batcher.submit(FILLER * 5 + "A walrus comes. " + FILLER * 5) for _ in range(5)]
        if ending == "cancelled":
            assert futures[-1].cancel()
        model.gate.set()
        wait_for(futures, timeout=30)
        batcher.close()
        model.fault = None  # its traceback holds this model
        # An error's traceback holds the engine that failed.
        kept = None if ending == "failed" else futures
        del batcher, scorer, model, futures
        assert [each() for each in gone] == [None] * 3
        del kept
    finally:
        gc.enable()


def test_a_long_text_does_not_hold_up_short_ones(gated: tuple[GatedModel, Scorer]) -> None:
    model, scorer = gated
    with MicroBatcher(scorer, batch_tokens=20) as batcher:
        running = batcher.submit("one")
        model.entered.acquire()
        order: list[str] = []
        long = batcher.submit(FILLER * 60)
        long.add_done_callback(lambda _: order.append("long"))
        for number in range(3):
            short = batcher.submit(FILLER)
            short.add_done_callback(lambda _, number=number: order.append(f"short {number}"))
        model.gate.set()
        assert long.result(30).windows == 8
        running.result(30)
    assert order == ["short 0", "short 1", "short 2", "long"]


def test_a_fault_of_the_engine_reaches_who_waits_and_no_one_else(gated: tuple[GatedModel, Scorer]) -> None:
    model, scorer = gated
    model.gate.set()
    with MicroBatcher(scorer) as batcher:
        model.fault = RuntimeError("out of memory")
        with pytest.raises(RuntimeError, match="out of memory"):
            batcher.submit("crimson").result(30)
        model.fault = None
        assert batcher.submit("crimson").result(30).decision == "block"
        assert batcher.stats().outcomes["failed"] == 1


@pytest.mark.parametrize("drain", [True, False])
def test_closing_answers_or_fails_what_waits(gated: tuple[GatedModel, Scorer], drain: bool) -> None:
    model, scorer = gated
    batcher = MicroBatcher(scorer)
    running = batcher.submit("one")
    model.entered.acquire()
    waiting = [batcher.submit("crimson") for _ in range(5)]
    closing = threading.Thread(target=batcher.close, kwargs={"drain": drain})
    closing.start()
    time.sleep(0.05)
    with pytest.raises(BatcherClosed, match="takes no more texts"):
        batcher.submit("late")
    model.gate.set()
    closing.join(30)
    assert not closing.is_alive()
    assert running.result(0).decision == "clear"
    for future in waiting:
        if drain:
            assert future.result(0).decision == "block"
        else:
            with pytest.raises(BatcherClosed, match="was closed"):
                future.result(0)


def test_evidence_is_found_while_others_are_scored(bundle_path: Path) -> None:
    scorer = Scorer.load(bundle_path, threads=2)
    text = FILLER * 5 + "A walrus comes with each order. " + FILLER * 5
    expected = scorer.assess(text)
    assert expected.findings[0].spans
    with MicroBatcher(scorer) as batcher:
        futures = [batcher.submit(text) for _ in range(30)]
        assert all(future.result(30).findings == expected.findings for future in futures)


def test_evidence_does_not_pile_up_under_load(bundle_path: Path) -> None:
    """Texts that wait for evidence are few, so that the queue's limit and the deadlines hold what comes too fast."""
    scorer = Scorer.load(bundle_path, threads=1)
    text = "\n".join(f"A walrus comes with order {number}." for number in range(12))
    with MicroBatcher(scorer, queue_tokens=100_000) as batcher:
        futures = [batcher.submit(text) for _ in range(300)]
        most = 0
        while not all(future.done() for future in futures):
            running = sum(future.running() for future in futures)
            most = max(most, running)
            time.sleep(0.001)
        assert all(future.result(0).findings for future in futures)
    # Those that search for evidence, and those of a batch or two that were on their way when the limit was reached.
    assert most <= 8 + 2 * 512 // 8


@pytest.mark.parametrize("wrong", [None, b"text", 3])
def test_what_is_not_a_text_is_refused(scorer: Scorer, wrong: Any) -> None:
    with MicroBatcher(scorer) as batcher:
        with pytest.raises(TypeError, match="text must be a str"):
            batcher.submit(wrong)
        with pytest.raises(TypeError, match="text must be a str"):
            asyncio.run(batcher.assess_async(wrong))


def test_a_forked_process_starts_anew(bundle_path: Path) -> None:
    scorer = Scorer.load(bundle_path, threads=2)
    with MicroBatcher(scorer) as batcher:
        assert batcher.submit("crimson").result(30).decision == "block"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                found = [batcher.submit("crimson").result(20), *scorer.assess_many(["a walrus", "x"] * 300)]
                status = 0 if [each.decision for each in found[:2]] == ["block", "review"] else 3
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert batcher.submit("crimson").result(30).decision == "block"


def test_figures_in_the_format_of_prometheus(scorer: Scorer) -> None:
    with MicroBatcher(scorer) as batcher:
        batcher.submit("crimson").result(30)
    lines = batcher.stats().prometheus().splitlines()
    assert 'merchantguard_requests_total{outcome="completed"} 1' in lines
    assert 'merchantguard_latency_seconds_bucket{le="+Inf"} 1' in lines
    assert "merchantguard_queue_tokens 0" in lines
    assert all(line.startswith(("# HELP ", "# TYPE ", "merchantguard_")) for line in lines)
    typed = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert [line.split()[2] for line in lines if line.startswith("# HELP ")] == typed


def test_evidence_that_comes_with_the_logits_needs_no_turn_of_its_own(explained_bundle_path: Path) -> None:
    scorer = Scorer.load(explained_bundle_path, threads=1)
    expected = [scorer.assess(text) for text in TEXTS]
    assert any(each.findings for each in expected)
    with MicroBatcher(scorer, batch_tokens=1) as batcher:
        for text, assessment in zip(TEXTS, expected, strict=True):
            assert same(batcher.submit(text).result(30), assessment)
        assert batcher.stats().batches == sum(each.windows for each in expected)

"""A first stage that is fitted on the records of a stream: who may be in it, and what it is worth."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.core.errors import RecordError
from merchantguard.data.records.record import Record, parse_record
from merchantguard.export.build import export_bundle
from merchantguard.export.cascade import StageData
from merchantguard.serve import Scorer
from merchantguard.train.run import LoadedRun

from .conftest import TEXTS

VIOLATING, COMPLIANT = "We sell crimson goods, item", "Call us or write a letter, branch"


def record(
    number: int, *, labels: tuple[str, ...] = (), domain: str | None = None, unknown: bool = False
) -> Record:
    text = f"{VIOLATING if labels else COMPLIANT} {number}."
    row = {"id": f"r{number}", "text": text, "labels": list(labels), "domain": domain}
    return parse_record(row | {"unknown": ["beta"] * unknown}, None, row_number=number)


def stream(size: int = 120) -> list[Record]:
    return [record(number, labels=("alpha",) * (number % 2)) for number in range(size)]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.booleans()), min_size=40, max_size=80))
def test_a_merchant_is_fitted_on_or_certifies(run: LoadedRun, rows: list[tuple[bool, int, bool]]) -> None:
    given_records = [
        record(number, labels=("alpha",) * violating, domain=f"{domain}.example", unknown=unknown)
        for number, (violating, domain, unknown) in enumerate(rows)
    ]
    # One of each kind that is always there: the merchants "2" and "4" are on different sides.
    fixed = [record(1000 + n, labels=("alpha",), domain=f"m{n}") for n in range(12)] + [record(2000)]
    data = StageData.divide([*given_records, *fixed], run)
    fitted = {each.domain for each in data.fitted if each.labels}
    assert fitted.isdisjoint(each.domain for each in data.certifying)
    assert all(each.labels for each in data.certifying)
    assert not any(each.unknown and not each.labels for each in data.fitted)
    labelled = [each for each in given_records if each.labels or not each.unknown]
    assert len(data.fitted) + len(data.certifying) == len(labelled) + len(fixed)


def test_what_the_run_kept_to_calibrate_and_test_is_left_out(judged_run: LoadedRun) -> None:
    by_domain = [record(number, labels=("alpha",), domain=f"{number}.example") for number in range(40)]
    by_id = [replace(each, id=str(number), domain=None) for number, each in enumerate(by_domain)]
    kept = {each.id for each in stream()}
    data = StageData.divide(
        [*by_domain, *by_id, *(replace(each, id=f"s{each.id}") for each in stream())], judged_run
    )
    assert {each.id for each in (*data.fitted, *data.certifying)} == {f"s{name}" for name in kept}


@pytest.mark.parametrize("labels", [(), ("alpha",)])
def test_a_stream_of_one_kind_is_refused(run: LoadedRun, labels: tuple[str, ...]) -> None:
    with pytest.raises(RecordError, match="give records of both kinds"):
        StageData.divide([record(number, labels=labels) for number in range(60)], run)


def test_a_fitted_stage_clears_what_is_like_the_streams_compliant_texts(
    make_run: Callable[..., LoadedRun], judged_run: LoadedRun, tmp_path: Path
) -> None:
    # The model has no branch: the stream is all that the stage needs.
    run = replace(make_run(), path=judged_run.path)
    bundle = export_bundle(run, tmp_path / "bundle", texts=TEXTS, fused=False, stream=stream(400))
    assert bundle.cascade is not None
    certifying = StageData.divide(stream(400), run).certifying
    assert len(bundle.cascade.violating_scores) == 40 + len(certifying)
    scorer = Scorer.load(bundle.path, cascade=0.3, variant="plain", threads=1)
    found = list(scorer.assess_many([f"{COMPLIANT} 7000.", f"{VIOLATING} 7001."]))
    assert [each.cleared_early for each in found] == [True, False]

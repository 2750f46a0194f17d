"""A search: only what may vary varies, the test split is never there, a stopped search ends as an unbroken one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from merchantguard.cli import main as command
from merchantguard.core.errors import RunError, SettingsError
from merchantguard.train.batching.dataset import SplitRecords, load_split_records
from merchantguard.train.fitting.checkpoint import LogRow
from merchantguard.train.search import search as search_module
from merchantguard.train.search.report import format_trials, write_search
from merchantguard.train.search.search import Search, Trial
from merchantguard.train.search.space import load_space, with_values
from merchantguard.train.settings import Settings, build_settings, load_settings

SPACE = "{lora.rank: [2, 4], optim.learning_rate: {low: 1e-3, high: 0.03, log: true}, model.describe_head: [true, false]}"


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_base: Path,
    taxonomy_file: Path,
    write_tiny_records: Callable[..., Path],
) -> Settings:
    data = write_tiny_records(tmp_path_factory.mktemp("records") / "records.jsonl")
    shares = {"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2}
    values = {
        "model": {"base": str(tiny_base), "window_tokens": 24, "stride_tokens": 6},
        "optim": {"epochs": 2, "batch_records": 8},
        "loop": {"trackers": []},
        "data": {"taxonomy": str(taxonomy_file), "records": [str(data)], **shares},
    }
    return build_settings(values)


@pytest.fixture(scope="module")
def data(settings: Settings) -> SplitRecords:
    return load_split_records(settings.data, strict=True, rejects=None)


def faked(monkeypatch: pytest.MonkeyPatch, *, stop_at: int | None = None) -> list[Settings]:
    """Trials whose figure is a formula of their settings; gives the settings that were tried, in order."""
    tried: list[Settings] = []

    def train(self: Search, settings: Settings, trial: Any) -> float:
        if len(tried) == stop_at:
            raise KeyboardInterrupt
        tried.append(settings)
        if settings.lora.rank == 4 and settings.model.describe_head:
            raise RunError("training diverged")
        return 1.0 - abs(settings.optim.learning_rate - 0.01)

    monkeypatch.setattr(Search, "_train", train)
    return tried


def test_a_stopped_search_ends_as_an_unbroken_one(
    settings: Settings, data: SplitRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = load_space(SPACE, settings)
    faked(monkeypatch)
    unbroken = Search(settings, data, space, tmp_path / "unbroken").run(13, on_trial=lambda trial: None)
    tried = faked(monkeypatch, stop_at=5)
    with pytest.raises(KeyboardInterrupt):
        Search(settings, data, space, tmp_path / "stopped").run(13, on_trial=lambda trial: None)
    assert len(tried) == 5
    faked(monkeypatch)
    assert len(Search(settings, data, space, tmp_path / "stopped").run(8, on_trial=lambda trial: None)) == 8
    resumed = Search(settings, data, space, tmp_path / "stopped").run(13, on_trial=lambda trial: None)
    assert [(t.values, t.state, t.figure) for t in resumed] == [
        (t.values, t.state, t.figure) for t in unbroken
    ]
    assert {t.state for t in unbroken} == {"complete", "fail"}
    best = [load_settings(tmp_path / name / "best.yaml") for name in ("unbroken", "stopped")]
    assert best[0] == best[1]
    figures = [t.figure for t in unbroken if t.figure is not None]
    assert 1.0 - abs(best[0].optim.learning_rate - 0.01) == max(figures)


def test_a_search_never_holds_the_test_split(settings: Settings, data: SplitRecords, tmp_path: Path) -> None:
    search = Search(settings, data, load_space(SPACE, settings), tmp_path)
    assert set(search.data.records) == {"train", "validation"}


def test_another_space_in_the_same_folder_is_refused(
    settings: Settings, data: SplitRecords, tmp_path: Path
) -> None:
    Search(settings, data, load_space(SPACE, settings), tmp_path)
    with pytest.raises(RunError, match="choose another --out"):
        Search(settings, data, load_space("{lora.rank: [2]}", settings), tmp_path)


def test_when_every_trial_fails_the_reasons_are_given(
    settings: Settings, data: SplitRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(monkeypatch)
    space = load_space("{lora.rank: [4], model.describe_head: [true]}", settings)
    with pytest.raises(RunError, match="training diverged"):
        Search(settings, data, space, tmp_path).run(2, on_trial=lambda trial: None)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{lora.rnk: [2]}", "no setting 'lora.rnk'"),
        ("{lora.rank: [0]}", "lora.rank"),
        ("{lora.rank: []}", "no choices"),
        ("{data.test: [0.1, 0.2]}", "must stay fixed"),
        ("{thresholds.confidence: [0.9]}", "must stay fixed"),
        ("{optim.learning_rate: {low: 0.1, high: 0.01}}", "low must not exceed high"),
        ("{optim.learning_rate: {low: 0, high: 1, log: true}}", "log scale needs low above 0"),
        ("{optim.learning_rate: {lo: 0, high: 1}}", "write a list of choices"),
        ("{optim.learning_rate: {low: much, high: 1}}", "'much' is not a number"),
        ("missing.yaml", "cannot be read"),
        ("{", "is not YAML"),
        ("{}", "must map settings"),
    ],
)
def test_a_bad_space_is_answered_clearly(space: str, message: str, settings: Settings) -> None:
    with pytest.raises(SettingsError, match=message):
        load_space(space, settings)


def test_all_faults_of_a_space_are_shown_together(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="2 fault") as found:
        load_space("{lora.rnk: [2], lora.rank: [0]}", settings)
    assert "lora.rnk" in str(found.value)
    assert "lora.rank" in str(found.value)


def test_values_go_where_their_names_say(settings: Settings) -> None:
    changed = with_values(settings, {"optim.epochs": 7, "data.quotes": True})
    assert (changed.optim.epochs, changed.data.quotes) == (7, True)
    assert changed.lora == settings.lora


def test_trials_train_for_real_are_pruned_and_give_a_config_that_trains(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "_PRUNED_FROM", 1)
    seen: list[LogRow] = []
    fit = search_module.fit_splits

    def watched(*arguments: Any, **keywords: Any) -> Any:
        report = keywords.pop("on_evaluation")

        def on_evaluation(row: LogRow) -> None:
            seen.append(row)
            report(row)

        return fit(*arguments, on_evaluation=on_evaluation, **keywords)

    monkeypatch.setattr(search_module, "fit_splits", watched)
    config, space = tmp_path / "tiny.yaml", tmp_path / "space.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    # The second rate learns nothing: its trial falls below the median of one at its second evaluation.
    space.write_text("optim.learning_rate: [0.02, 1.0e-7]\noptim.mixed_precision: ['no']\n")
    out = tmp_path / "search"
    call = [
        "search",
        str(config),
        "--out",
        str(out),
        "--space",
        str(space),
        "--trials",
        "4",
        "loop.evaluate_every=2",
    ]
    assert command(call) == 0
    shown = capsys.readouterr()
    assert shown.out.rstrip().endswith("best.yaml")
    assert load_settings(out / "best.yaml").optim.learning_rate == 0.02
    assert "pruned" in shown.err
    assert len(seen) > 4
    assert not list(out.glob("trial-*"))
    assert "vegaEmbed" in (out / "search.html").read_text()


def test_the_page_and_the_table_show_failed_trials_too(tmp_path: Path) -> None:
    trials = [
        Trial(0, {"lora.rank": 4, "model.base": "</script>"}, "complete", 0.5, 2),
        Trial(1, {"lora.rank": 8, "model.base": "b"}, "fail", None, 0),
    ]
    write_search(tmp_path / "s.html", trials, title="t", errors={1: "<b>diverged</b>"}, best="a: 1\n")
    page = (tmp_path / "s.html").read_text()
    assert "&lt;b&gt;diverged" in page
    assert '<td class="n"></script>' not in page
    assert "fail" in format_trials(trials)

"""Everything once: train on the shipped corpus, calibrate, certify, evaluate, export, score example pages."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from .core.errors import RunError
from .core.extras import require
from .data.records.readers import RowFault

EPILOG = """example:
  merchantguard quickstart --out quickstart --examples examples
"""

_Row = tuple[str, str, Any, dict[str, str]]
"""Name of the page, its text, the assessment, and the policies' titles by id."""

_DECISION_STYLE = {"block": "bold red", "review": "yellow", "clear": "green"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `merchantguard quickstart`."""
    parser.add_argument(
        "--out", type=Path, default=Path("quickstart"), help="folder for run and bundle (quickstart)"
    )
    parser.add_argument(
        "--examples", type=Path, default=Path("examples"), help="folder of pages to score (examples)"
    )
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="group.key=value", help="settings to override"
    )


def main(args: argparse.Namespace) -> int:
    """Run the stages, skipping what an earlier call finished; the table goes to standard output."""
    if not args.examples.is_dir():
        raise RunError(f"{args.examples}: no such folder; give the pages to score with --examples")
    run, bundle = args.out / "run", args.out / "bundle"
    _timed("train", lambda: _train(run, args.set))
    _timed("export", lambda: _export(run, bundle))
    rows = _timed("score", lambda: _score(bundle, args.examples))
    _print_findings(rows)
    _print_figures(run)
    print(f"report: {run / 'report.html'}\nbundle: {bundle}")
    return 0


def _timed(stage: str, work: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = work()
    print(f"{stage}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return result


def _train(run: Path, overrides: list[str]) -> None:
    from .train.batching.dataset import load_split_records
    from .train.cli.options import quiet_libraries
    from .train.pipeline import train_run
    from .train.settings import load_settings

    if (run / "metrics.json").is_file():
        print(f"{run} is finished already; delete it to train anew", file=sys.stderr)
        return
    quiet_libraries()
    with as_file(files(__package__).joinpath("configs/minilm.yaml")) as config:
        settings = load_settings(config, overrides=overrides)
    train_run(settings, load_split_records(settings.data, strict=True, rejects=None), run, resume=True)


def _export(run: Path, bundle: Path) -> None:
    from .export.build import export_bundle
    from .train.run import load_run

    export_bundle(load_run(run), bundle)


def _score(bundle: Path, examples: Path) -> list[_Row]:
    from .serve import Scorer
    from .serve.cli.inputs import read_inputs
    from .serve.cli.score import assess_records

    def stop(fault: RowFault, raw: str) -> None:
        raise RunError(str(fault))

    scorer = Scorer.load(bundle)
    pages = sorted(str(p) for p in examples.iterdir() if p.suffix in (".html", ".htm", ".txt"))
    if not pages:
        raise RunError(f"{examples}: holds no .html or .txt page to score")
    titles = {policy.id: policy.title for policy in scorer.policies}
    records = read_inputs(pages, stdin_format="jsonl", on_fault=stop)
    return [
        (record.id, record.text, assessment, titles) for record, assessment in assess_records(scorer, records)
    ]


def _print_findings(rows: list[_Row]) -> None:
    rich, table_module, text = (
        require("rich.console", "cli"),
        require("rich.table", "cli"),
        require("rich.text", "cli"),
    )
    table = table_module.Table(title="What the model says of the example pages", show_lines=True)
    for column in ("merchant", "decision", "finding", "p", "passage"):
        table.add_column(column, overflow="fold")
    for name, source, assessment, titles in rows:
        findings = assessment.findings[:2] or [None]
        # Text objects, not markup strings: a merchant's brackets must not style the reviewer's terminal.
        table.add_row(
            text.Text(Path(name).name),
            text.Text(assessment.decision, style=_DECISION_STYLE[assessment.decision]),
            text.Text("\n".join(titles[f.policy] if f else "–" for f in findings)),
            text.Text("\n".join(f"{f.probability:.2f}" if f else "" for f in findings)),
            text.Text("\n".join(_passage(source, f) for f in findings if f)),
        )
    rich.Console(width=None if sys.stdout.isatty() else 120).print(table)


def _passage(source: str, finding: Any) -> str:
    if not finding.spans:
        return ""
    span = finding.spans[0]
    passage = "".join(c if c.isprintable() else " " for c in source[span.start : span.end])
    return passage if len(passage) <= 90 else passage[:89] + "…"


def _print_figures(run: Path) -> None:
    from .train.evaluation.figures import Evaluation
    from .train.report.table import format_table

    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    with suppress(BrokenPipeError):
        print(format_table(Evaluation.from_json(metrics["test"])))

"""The whole way once: train on the shipped corpus, calibrate, certify, evaluate, export, score example pages."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from .core.display import visible_line
from .core.errors import RunError
from .core.extras import require
from .core.files import read_json
from .data.records.readers import RowFault

if TYPE_CHECKING:
    from .serve import Assessment, Finding

EPILOG = """example:
  merchantguard quickstart --out quickstart --examples examples
"""

PAGE_SUFFIXES = (".html", ".htm", ".txt")

_PASSAGE = 90
_DECISION_STYLE = {"block": "bold red", "review": "yellow", "clear": "green"}


@dataclass(frozen=True, slots=True)
class ScoredPage:
    """An example page with its assessment; `titles` names the policies by id."""

    name: str
    text: str
    assessment: "Assessment"
    titles: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `merchantguard quickstart` to a parser."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("quickstart"),
        help="folder for run and bundle (default: %(default)s)",
    )
    parser.add_argument(
        "--examples",
        type=Path,
        default=Path("examples"),
        help="folder of pages to score (default: %(default)s)",
    )
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="group.key=value", help="settings to override"
    )


def main(args: argparse.Namespace) -> int:
    """Run the phases, except a training that an earlier call finished; the tables go to standard output.

    :raises MerchantGuardError: if a phase fails.
    """
    pages = sorted(str(page) for page in args.examples.glob("*") if page.suffix in PAGE_SUFFIXES)
    if not pages:
        raise RunError(
            f"{args.examples}: holds no .html or .txt page; give a folder of pages with --examples"
        )
    run, bundle = args.out / "run", args.out / "bundle"
    with _phase("train"):
        _train(run, args.set)
    with _phase("export"):
        _export(run, bundle)
    with _phase("score"):
        scored = _score(bundle, pages)
    _print_findings(scored)
    _print_figures(run)
    print(f"report: {run / 'report.html'}\nbundle: {bundle}")
    return 0


@contextmanager
def _phase(name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def _train(run: Path, overrides: list[str]) -> None:
    from .train.batching.dataset import load_split_records
    from .train.cli.options import quiet_libraries
    from .train.pipeline import train_run
    from .train.settings import load_settings

    if (run / "metrics.json").is_file():
        print(f"{run} is already finished; delete it to train again", file=sys.stderr)
        return
    quiet_libraries()
    with as_file(files(__package__).joinpath("configs/minilm.yaml")) as config:
        settings = load_settings(config, overrides=overrides)
    train_run(settings, load_split_records(settings.data, strict=True, rejects=None), run, resume=True)


def _export(run: Path, bundle: Path) -> None:
    from .export.build import export_bundle
    from .train.run import load_run

    export_bundle(load_run(run), bundle)


def _score(bundle: Path, pages: list[str]) -> list[ScoredPage]:
    from .serve import Scorer
    from .serve.cli.inputs import read_inputs
    from .serve.cli.score import assess_records

    def stop(fault: RowFault, _: str) -> None:
        raise RunError(str(fault))

    scorer = Scorer.load(bundle)
    titles = {policy.id: policy.title for policy in scorer.policies}
    records = read_inputs(pages, stdin_format="jsonl", on_fault=stop)
    return [
        ScoredPage(record.id, record.text, assessment, titles)
        for record, assessment in assess_records(scorer, records)
    ]


def _print_findings(pages: list[ScoredPage]) -> None:
    console, tables, text = (require(f"rich.{name}", "cli") for name in ("console", "table", "text"))
    table = tables.Table(title="Assessments of the example pages", show_lines=True)
    for column in ("merchant", "decision", "finding", "p", "passage"):
        table.add_column(column, overflow="fold")
    for page in pages:
        findings = page.assessment.findings[:2]
        cells = [
            visible_line(page.name),
            page.assessment.decision,
            "\n".join(page.titles[finding.policy] for finding in findings) or "–",
            "\n".join(f"{finding.probability:.2f}" for finding in findings),
            "\n".join(_passage(finding) for finding in findings),
        ]
        styles = ["", _DECISION_STYLE[page.assessment.decision], "", "", ""]
        # Text objects, not markup strings: a merchant's brackets must not style the reviewer's terminal.
        table.add_row(*(text.Text(cell, style=style) for cell, style in zip(cells, styles, strict=True)))
    console.Console(width=None if sys.stdout.isatty() else 120).print(table)


def _passage(finding: "Finding") -> str:
    """The best passage of a finding on one line, shortened."""
    passage = visible_line(finding.spans[0].text) if finding.spans else ""
    return passage if len(passage) <= _PASSAGE else passage[: _PASSAGE - 1] + "…"


def _print_figures(run: Path) -> None:
    from .train.evaluation.figures import Evaluation
    from .train.report.table import format_table

    metrics = read_json(run / "metrics.json")
    with suppress(BrokenPipeError):
        print(format_table(Evaluation.from_json(metrics["test"])))

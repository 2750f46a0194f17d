"""Options that several commands share, and what they do with them."""

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from datasets import disable_progress_bars as disable_dataset_bars
from transformers.utils.logging import disable_progress_bar as disable_weight_bars

from ...core.progress import progress
from ...data.check.labels import require_labels
from ...data.records.readers import RecordSet, read_records
from ...data.records.record import Record
from ...data.taxonomy import Taxonomy
from ..evaluation.predictions import Predictions
from ..run import LoadedRun, predict_records
from ..settings import Settings, load_settings

_OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)?=")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """The settings given as group.key=value."""
    parser.add_argument(
        "overrides", nargs="*", metavar="group.key=value", help="settings that override the file's"
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """The option --data."""
    parser.add_argument(
        "--data", nargs="+", metavar="FILE", help="record files; default: data.records, or the corpus"
    )


def add_labelled_files(parser: argparse.ArgumentParser) -> None:
    """The record files that a run is measured on."""
    parser.add_argument("data", nargs="+", type=Path, help="labelled record files")


def add_strict(parser: argparse.ArgumentParser) -> None:
    """The option --strict."""
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first bad row instead of setting it aside"
    )


def chosen_settings(config: Path | None, overrides: Sequence[str], data: Sequence[str] | None) -> Settings:
    """The settings of a file with overrides, and the record files of --data in place of its own.

    :raises SettingsError: if the file or a value is not allowed.
    """
    # argparse gives --data everything that follows it, settings too.
    misplaced = [word for word in data or () if _OVERRIDE.match(word) and not Path(word).exists()]
    files = tuple(word for word in data or () if word not in misplaced)
    settings = load_settings(config, overrides=[*overrides, *misplaced])
    if not files:
        return settings
    records = settings.data.model_copy(update={"records": files})
    return settings.model_copy(update={"data": records})


def read_labelled(args: argparse.Namespace, taxonomy: Taxonomy) -> RecordSet:
    """The records of the files in `args.data`; bad rows are set aside in the folder --out, if it is given.

    :raises RecordError: if a file cannot be read, or a row with --strict, or nothing is labelled.
    """
    rejects = args.out / "rejects.jsonl" if args.out else None
    read = read_records(args.data, taxonomy, strict=args.strict, rejects=rejects)
    require_labels(args.data, read.records, taxonomy)
    return read


def predict(run: LoadedRun, records: Sequence[Record]) -> Predictions:
    """Predictions of a run for records; the windows are deleted afterwards."""
    with (
        tempfile.TemporaryDirectory() as cache,
        progress(f"scoring with {run.name}", total=len(records)) as update,
    ):
        return predict_records(run, records, cache=Path(cache) / "windows", on_progress=update)


def quiet_libraries() -> None:
    """Turn off the libraries' progress bars: the commands show their own progress."""
    disable_dataset_bars()
    disable_weight_bars()

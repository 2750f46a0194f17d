"""What several commands of `label-audit` share."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from ..storage.journal import Journal
from ..storage.store import Scan

if TYPE_CHECKING:
    from ...train.settings import Settings


def add_audit(parser: argparse.ArgumentParser) -> None:
    """The argument AUDIT."""
    parser.add_argument("audit", type=Path, metavar="AUDIT", help="the audit's folder")


@contextmanager
def open_audit(folder: Path) -> Iterator[tuple[Scan, Journal]]:
    """The scan and the journal of an audit, closed at the end.

    :raises AuditError: if there is no usable audit.
    """
    scan = Scan(folder)
    try:
        journal = Journal(folder)
        try:
            yield scan, journal
        finally:
            journal.close()
    finally:
        scan.close()


def training_settings(config: Path | None, overrides: Sequence[str]) -> "Settings":
    """The settings in `config`, by default configs/minilm.yaml, with overrides.

    :raises SettingsError: if the file or a value is not allowed.
    """
    # Imported late: most commands need no settings.
    from ...train.settings import load_settings

    if config is not None:
        return load_settings(config, overrides=list(overrides))
    with as_file(files("merchantguard").joinpath("configs/minilm.yaml")) as shipped:
        return load_settings(shipped, overrides=list(overrides))

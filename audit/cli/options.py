"""What several commands of `label-audit` share."""

import argparse
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...train.settings import Settings


def add_audit(parser: argparse.ArgumentParser) -> None:
    """The argument AUDIT."""
    parser.add_argument("audit", type=Path, metavar="AUDIT", help="the audit's folder")


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

"""The decision records of `merchantguard score --log`: part by part, then joined into one file of JSON lines."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from ...core.files import atomic_path
from ..bulk.parts import Parts
from ..decision_record import DecisionRecord

_SUFFIX = ".log"


def write_log(part: Path, records: Sequence[DecisionRecord]) -> None:
    """Write the decision records of a part beside it."""
    with atomic_path(part.with_suffix(_SUFFIX)) as temporary, open(temporary, "wb") as stream:
        for record in records:
            line = json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False)
            stream.write(line.encode("utf-8", "backslashreplace") + b"\n")


def join_logs(parts: Parts, out: Path) -> Path:
    """Join the decision records of all parts into `out`."""
    with atomic_path(out) as temporary, open(temporary, "wb") as stream:
        for part in parts.paths():
            with open(part.with_suffix(_SUFFIX), "rb") as opened:
                shutil.copyfileobj(opened, stream)
    return out

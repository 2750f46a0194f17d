"""Part files: results appear piece by piece, so that a killed job goes on where it stopped.

Beside OUT stands the folder OUT.parts: `job.json` says what the job is, and each `part-000000` with its `.json` of counts
is complete once that `.json` is there. A job with the same bundle, settings and input files goes on behind its last
complete part; any other starts again from the beginning. The parts are joined into OUT, which appears when it is complete.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import StorageError
from ...core.files import read_json, write_json

_JOB = "job.json"


class Parts:
    """The part files of one job."""

    def __init__(self, out: Path, suffix: str, job: Mapping[str, Any]) -> None:
        """Find what an earlier run of the same job has written.

        :param suffix: of the part files.
        :param job: what the job is, JSON values only; its `columns`, which the first rows decide, come from `set_columns`.
        :raises StorageError: if the folder cannot be used.
        """
        self.folder = out.with_name(out.name + ".parts")
        self._suffix = suffix
        self._job = json.loads(json.dumps(job))
        self.columns: list[str] | None = None
        self.counts: list[dict[str, Any]] = []
        try:
            self._open()
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{self.folder}: cannot be used for part files ({error}); remove it"
            ) from error

    def _open(self) -> None:
        document = read_json(self.folder / _JOB) if (self.folder / _JOB).is_file() else {}
        if document.get("job") != self._job:
            self.remove()
            self.folder.mkdir(parents=True)
            self._write_job()
            return
        self.columns = document["columns"]
        while (counts := self._counts_path(len(self.counts))).is_file():
            self.counts.append(read_json(counts))

    def set_columns(self, columns: Sequence[str]) -> None:
        """State the carried columns: all parts have the same."""
        self.columns = list(columns)
        self._write_job()

    @property
    def rows(self) -> int:
        """Rows in complete parts."""
        return sum(counts["rows"] for counts in self.counts)

    def next_path(self) -> Path:
        """Where the next part goes; it counts once `add` has its counts."""
        return self.path(len(self.counts))

    def add(self, counts: Mapping[str, Any]) -> None:
        """The next part is complete: keep its counts, `rows` among them."""
        write_json(self._counts_path(len(self.counts)), dict(counts))
        self.counts.append(dict(counts))

    def path(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{number:06}{self._suffix}"

    def paths(self) -> list[Path]:
        """The files of all complete parts, in order."""
        return [self.path(number) for number in range(len(self.counts))]

    def remove(self) -> None:
        """Remove the folder and all in it."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _counts_path(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.json"

    def _write_job(self) -> None:
        write_json(self.folder / _JOB, {"job": self._job, "columns": self.columns})

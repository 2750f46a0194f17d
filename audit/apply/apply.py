"""Writing an audit's corrected data, and restoring the original data."""

import gzip
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from ...core.display import safe_repr
from ...core.errors import AuditError
from ...core.files import atomic_folder, read_json, sha256_file, write_json
from .. import tool_version
from ..storage import open_audit
from ..storage.store import SCAN, Scan
from .edits import Edits, write_edited
from .provenance import Change, changes, changes_by_record

CHANGES = "changes.jsonl"
PROVENANCE = "provenance.json"
ORIGINALS = "originals"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Applied:
    """What was written: cells and records changed, and the data files.

    `waiting`: changes that were decided by fewer reviewers than asked for, and so were not made.
    """

    cells: int
    records: int
    files: tuple[Path, ...]
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A data file of a corrected folder: the path it was read from, its SHA-256 before and after, and its changed rows."""

    name: str
    path: str
    sha256: str
    sha256_applied: str
    changed_rows: int


def apply_audit(audit: Path, out: Path, *, min_reviewers: int = 1, data: Sequence[Path] = ()) -> Applied:
    """Write the scanned files with the labels that reviewers decided into the folder `out`, completely or not at all.

    The folder also gets changes.jsonl with one line for each changed cell, provenance.json, and under originals/ what
    `revert_data` needs to restore each changed file byte for byte.

    :param min_reviewers: a cell with votes from fewer reviewers stays as it is.
    :param data: the scanned files, if they have moved.
    :raises AuditError: if a file is not the one that was scanned, or the folder is in use.
    :raises StorageError: if the folder cannot be written.
    """
    _check_rerun(out, audit)
    with open_audit(audit) as (scan, journal):
        answers = journal.answers()
        found = changes(scan, answers, min_reviewers=min_reviewers)
        waiting = len(changes(scan, answers)) - len(found)
        sources = _scanned_files(scan, data)
        edits = Edits(changes_by_record(found), scan.taxonomy)
        with atomic_folder(out) as folder:
            (folder / ORIGINALS).mkdir()
            written = [_write_file(path, name, folder, edits) for name, path in sources.items()]
            if missing := sorted(set(edits.by_record) - edits.seen):
                raise AuditError(
                    f"{audit}: the record {safe_repr(missing[0])} is in no data file; scan again"
                )
            _write_changes(folder / CHANGES, found)
            about = {
                "format": FORMAT,
                "tool": tool_version(),
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "scan_sha256": sha256_file(Path(audit) / SCAN),
                "answers": max((answer.number for answer in answers), default=0),
                "min_reviewers": min_reviewers,
                "files": [asdict(each) for each in written],
                "kept": _kept_files(folder, [each.name for each in written]),
            }
            write_json(folder / PROVENANCE, about)
    return Applied(len(found), len(edits.by_record), tuple(out / name for name in sources), waiting)


def revert_data(folder: Path, out: Path) -> tuple[Path, ...]:
    """Write the files that `apply_audit` started from into `out`, byte for byte; returns their paths.

    :raises AuditError: if `folder` is not what `apply_audit` wrote, or a file it needs has changed since.
    :raises StorageError: if the folder cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AuditError(f"{out}: is in use; give a new folder")
    files = _written_files(folder)
    with atomic_folder(out) as target:
        for file in files:
            source = folder / (f"{ORIGINALS}/{file.name}.gz" if file.changed_rows else file.name)
            try:
                unpack: Any = gzip.open if file.changed_rows else open
                with unpack(source, "rb") as old, open(target / file.name, "wb") as new:
                    shutil.copyfileobj(old, new)
            except (FileNotFoundError, EOFError, gzip.BadGzipFile) as error:
                raise AuditError(f"{source}: is missing or damaged ({error}); restore it") from error
            if sha256_file(target / file.name) != file.sha256:
                raise AuditError(f"{source}: has changed since `label-audit apply` wrote it; restore it")
    return tuple(out / file.name for file in files)


def _check_rerun(out: Path, audit: Path) -> None:
    """Only an earlier result of the same scan that nobody has touched since may be replaced: edits are never written over."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / PROVENANCE).is_file():
        raise AuditError(f"{out}: is in use; give a new folder, or one that `label-audit apply` wrote")
    expected = {file.name: file.sha256_applied for file in _written_files(out)}
    about = read_json(out / PROVENANCE)
    if about.get("scan_sha256") != sha256_file(Path(audit) / SCAN):
        raise AuditError(f"{out}: was written from another scan; give a new folder")
    kept = about.get("kept")
    if not isinstance(kept, dict):
        raise AuditError(
            f"{out}: was written by an earlier version and may have been edited; give a new folder"
        )
    found = _kept_files(out, list(expected)) | {name: _digest(out / name) for name in expected}
    wanted = kept | expected
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise AuditError(
                f"{out / name}: has changed since `label-audit apply` wrote the folder; give a new folder, or move your edits away"
            )


def _kept_files(folder: Path, data: Sequence[str]) -> dict[str, str]:
    """Path in the folder -> SHA-256 of all files but the data files and the provenance itself."""
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return {name: sha256_file(folder / name) for name in names if name not in (PROVENANCE, *data)}


def _digest(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def _written_files(folder: Path) -> list[WrittenFile]:
    """The data files that the provenance of a corrected folder names."""
    path = folder / PROVENANCE
    try:
        about = read_json(path)
        if about["format"] != FORMAT:
            raise AuditError(f"{path}: has format {safe_repr(about['format'])}, this version reads {FORMAT}")
        files = [WrittenFile(**row) for row in about["files"]]
        for file in files:
            if Path(file.name).name != file.name:
                raise AuditError(f"{path}: names the file {safe_repr(file.name)}; it must be a plain name")
            int(file.changed_rows)
    except FileNotFoundError as error:
        raise AuditError(f"{folder}: contains nothing that `label-audit apply` wrote") from error
    except (ValueError, KeyError, TypeError) as error:
        raise AuditError(f"{path}: is damaged ({error!r}); restore it") from error
    return files


def _scanned_files(scan: Scan, data: Sequence[Path]) -> dict[str, Path]:
    """Name in the new folder -> path of each scanned file, after checking that it is unchanged."""
    moved = {sha256_file(path): path for path in data}
    found: dict[str, Path] = {}
    for name, digest in scan.summary.files.items():
        path = moved.get(digest, Path(name))
        if not path.is_file():
            raise AuditError(f"{path}: does not exist; give the scanned file's new path with --data")
        if sha256_file(path) != digest:
            raise AuditError(
                f"{path}: has changed since it was scanned; restore it, or scan and review again"
            )
        found[_free_name(path.name, (*found, CHANGES, PROVENANCE, ORIGINALS))] = path
    return found


def _free_name(name: str, taken: Sequence[str]) -> str:
    """The name, with a number before it if it is taken by a file from another folder."""
    tries = (f"{number}-{name}" if number > 1 else name for number in count(1))
    return next(candidate for candidate in tries if candidate not in taken)


def _write_file(path: Path, name: str, folder: Path, edits: Edits) -> WrittenFile:
    """Write one file and, if it changed, keep its old bytes."""
    changed = write_edited(path, folder / name, edits)
    if changed:
        kept = folder / ORIGINALS / f"{name}.gz"
        with open(path, "rb") as old, gzip.open(kept, "wb", compresslevel=3) as packed:
            shutil.copyfileobj(old, packed)
    else:
        shutil.copyfile(path, folder / name)
    return WrittenFile(name, str(path), sha256_file(path), sha256_file(folder / name), changed)


def _write_changes(path: Path, found: Sequence[Change]) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        # ASCII escapes keep lone surrogates, which UTF-8 cannot.
        stream.writelines(json.dumps(change.to_json()) + "\n" for change in found)

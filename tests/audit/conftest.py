"""An audit on disk out of rows, items and answers, without a model."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from merchantguard.audit.storage.items import Answer, Item
from merchantguard.audit.storage.journal import Journal
from merchantguard.audit.storage.store import ScanSummary, write_scan
from merchantguard.data.records.readers import read_records, write_records
from merchantguard.data.taxonomy import load_taxonomy


@pytest.fixture
def write_audit(taxonomy_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes data.jsonl (or takes the files given), a scan with these items, and a journal with these answers."""

    def write(
        rows: Sequence[Mapping[str, Any]] = (),
        items: Sequence[Item] = (),
        answers: Sequence[Answer] = (),
        *,
        paths: Sequence[Path] = (),
        duplicates: Sequence[int] | None = None,
        name: str = "audit",
    ) -> Path:
        if rows:
            paths = [tmp_path / "data.jsonl"]
            write_records(rows, paths[0])
        taxonomy = load_taxonomy(taxonomy_file)
        read = read_records(paths, taxonomy)
        write_scan(
            tmp_path / name,
            taxonomy=taxonomy,
            records=read.records,
            duplicates=duplicates or range(len(read.records)),
            items=items,
            summary=ScanSummary(files=read.files),
        )
        journal = Journal(tmp_path / name)
        for answer in answers:
            journal.append(answer)
        journal.close()
        return tmp_path / name

    return write

"""An audit on disk: the scan (`Scan`, `write_scan`), written once, and the journal of answers (`Journal`), only appended to."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .journal import Journal
from .store import Scan


@contextmanager
def open_audit(folder: Path) -> Iterator[tuple[Scan, Journal]]:
    """The scan and the journal of an audit, closed at the end.

    :raises AuditError: if there is no usable audit.
    """
    with closing(Scan(folder)) as scan, closing(Journal(folder)) as journal:
        yield scan, journal

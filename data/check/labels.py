"""Labels where a command cannot work without them: a forgotten column is an error that names the columns present."""

from collections.abc import Sequence
from pathlib import Path

from ...core.display import safe_repr
from ...core.errors import RecordError
from ..records.mapping import read_columns
from ..records.record import Record, label_matrix
from ..records.rows import READ_ONLY_SUFFIXES
from ..taxonomy import Taxonomy

_LABEL_FIELDS = {"labels", "unknown"}


def require_labels(paths: Sequence[Path], records: Sequence[Record], taxonomy: Taxonomy) -> None:
    """Check that tables have a column of labels, and that some record is labelled.

    :param records: what was read from the files.
    :raises RecordError: naming the file and its columns.
    """
    labelled = bool(label_matrix(records, taxonomy).labelled.any())
    for path in map(Path, paths):
        if path.name.lower().endswith(READ_ONLY_SUFFIXES):
            continue
        columns = read_columns(path)
        if _LABEL_FIELDS & set(columns.names) or (labelled and not columns.is_table):
            continue
        raise RecordError(
            f"{path}: has no column `labels`; it has {safe_repr(', '.join(columns.names), limit=300)}. Name the one that "
            f"holds them: merchantguard check {path} --map labels=COLUMN --to records.jsonl"
        )
    if records and not labelled:
        raise RecordError(
            f"none of the {len(records):,} records is labelled: `labels` is empty in JSON (null) or `unknown` names all "
            "policies; an empty list means that the merchant is compliant"
        )

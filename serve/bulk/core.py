"""Scoring Arrow record batches: the part that every engine shares.

A batch comes in, the same rows go out, in their order, with the columns of `schema.result_fields` and `error`. A row
whose text cannot be scored keeps its place with the reason in `error`: one bad row never fails a job.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import RecordError
from ...core.extras import require
from ...data.records.record import Record, record_from
from ...data.site_text import SiteText, text_of
from ..assessment import Assessment
from ..decision_record import Recorder
from ..scorer import BATCH_TOKENS, Scorer
from .identity import ScoredBy
from .rows import RESULT_COLUMNS, ResultRow
from .schema import conform, encodable, result_fields

ERROR = "error"
DECISION_RECORD = "decision_record"
_ADDED = (*RESULT_COLUMNS[1:], ERROR, DECISION_RECORD)


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How the rows of a batch are read and written.

    :param text: the column of texts, or of sites: lists of pages {url, text or html}.
    :param id: the column that names a row in its decision record; it may be missing.
    :param keep_text: keep the column of texts in the output.
    :param read_once: read what the pages of a site repeat once.
    :param batch_tokens: tokens of one run of the model.
    """

    text: str = "text"
    id: str = "id"
    keep_text: bool = False
    read_once: bool = True
    batch_tokens: int = BATCH_TOKENS


def output_schema(given: Any, options: BatchOptions, *, log: bool = False) -> Any:
    """The schema of what comes out for batches of schema `given`; `log` adds the decision record as JSON.

    :raises RecordError: if the column of texts is missing or of another type, or a name is taken.
    """
    pa = require("pyarrow", "cli")
    if options.text not in given.names:
        raise RecordError(f"no column {options.text!r}; the columns are {', '.join(given.names)}")
    kind = given.field(options.text).type
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    pages = (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_struct(kind.value_type)
    if not (texts or pages):
        raise RecordError(f"the column {options.text!r} is {kind}; it must hold texts or lists of pages")
    kept = [field for field in given if options.keep_text or field.name != options.text]
    if taken := [field.name for field in kept if field.name in _ADDED]:
        raise RecordError(f"the columns {', '.join(taken)} have names that results use; rename or drop them")
    added = [*result_fields(), pa.field(ERROR, pa.string())]
    return pa.schema([*kept, *added, *([pa.field(DECISION_RECORD, pa.string())] if log else [])])


class BatchScorer:
    """Scores record batches of one schema. It keeps no rows: threads may share it."""

    def __init__(
        self,
        scorer: Scorer,
        given: Any,
        options: BatchOptions | None = None,
        *,
        recorder: Recorder | None = None,
    ) -> None:
        """Score batches of schema `given`.

        :param recorder: adds a column with the decision record of each row, as JSON.
        :raises RecordError: if the columns do not fit.
        """
        self.options = options or BatchOptions()
        self.schema = output_schema(given, self.options, log=recorder is not None)
        self._scorer = scorer
        self._recorder = recorder
        self._by = ScoredBy.of_scorer(scorer, read_once=self.options.read_once)

    def __call__(self, batch: Any) -> Any:
        """The batch with its results."""
        pa = require("pyarrow", "cli")
        results = self._results(batch)
        arrays = {name: batch.column(name) for name in self.schema.names if name in batch.schema.names}
        for name in self.schema.names:
            if name not in arrays:
                values = [row.get(name) for row in results]
                arrays[name] = pa.array(values, type=self.schema.field(name).type)
        return conform(pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays)), self.schema)

    def _results(self, batch: Any) -> list[dict[str, Any]]:
        """The added columns of each row."""
        texts = batch.column(self.options.text).to_pylist()
        named = self.options.id in batch.schema.names
        ids = batch.column(self.options.id).to_pylist() if named else [None] * len(texts)
        read = [_record(text) for text in texts]
        records = [each for each in read if isinstance(each, Record)]
        found = iter(assess(self._scorer, records, self.options))
        return [
            self._row(each, next(found), None if name is None else str(name))
            if isinstance(each, Record)
            else {ERROR: encodable(each)}
            for each, name in zip(read, ids, strict=True)
        ]

    def _row(self, record: Record, answer: Assessment | str, name: str | None) -> dict[str, Any]:
        if isinstance(answer, str):
            return {ERROR: encodable(answer)}
        row = ResultRow.of(record, answer, self._scorer.policies, self._by).to_dict()
        row = encodable(row) | {"probabilities": list(row["probabilities"].items())}
        if self._recorder is not None:
            made = self._recorder.record(answer, record.text, record_id=name, merchant_id=name)
            row[DECISION_RECORD] = json.dumps(encodable(made.to_dict()), ensure_ascii=False, allow_nan=False)
        return row


def assess(scorer: Scorer, records: Sequence[Record], options: BatchOptions) -> list[Assessment | str]:
    """The assessment of each record, equal texts read once; for a text that makes the scorer fail, the reason."""
    wanted = [text_of(record) if options.read_once else record.text for record in records]
    places: dict[str | SiteText, int] = {}
    for text in wanted:
        places.setdefault(text, len(places))
    answers = _assess_all(scorer, list(places), options.batch_tokens)
    return [answers[places[text]] for text in wanted]


def _assess_all(
    scorer: Scorer, texts: Sequence[str | SiteText], batch_tokens: int
) -> Sequence[Assessment | str]:
    try:
        return list(scorer.assess_many(texts, batch_tokens=batch_tokens, remember=0))
    except MemoryError:
        raise
    # Whatever a text brings about is its row's error, not the job's.
    except Exception as error:  # noqa: BLE001
        if len(texts) == 1:
            return [f"{type(error).__name__}: {error}"]
        middle = len(texts) // 2
        halves = (texts[:middle], texts[middle:])
        return [answer for half in halves for answer in _assess_all(scorer, half, batch_tokens)]


def _record(value: Any) -> Record | str:
    """The record of a text or of a list of pages, or why there is none."""
    if value is None:
        return "the text is null"
    field = "text" if isinstance(value, str) else "pages"
    try:
        return record_from({"id": "-", field: _pages(value) if field == "pages" else value}, None)
    except RecordError as error:
        return str(error)


def _pages(value: Sequence[Mapping[str, Any] | None]) -> list[Mapping[str, Any]]:
    return [page for page in value if page is not None]

"""WARC files as a Spark data frame of sites: one row a registered domain, with the newest capture of each page."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ....core.extras import require
from ....data.records.record import MAX_PAGES
from ....data.records.warc import Outcomes, expand_lists, iter_captures
from ....data.records.warc_sites import address_key, depth

_ROWS_AT_ONCE = 200
_CAPTURE = (
    "domain string, address string, depth int, collected_at string, number long, url string, text string, "
    "warc_record_id string, outcome string, count long"
)


def read_warc(spark: Any, paths: Sequence[Path]) -> tuple[Any, Any]:
    """The sites (id, domain, pages) of WARC files that every executor can read, and how many records ended how.

    A file is read by one task. The captures are kept on the executors' disks, as both results come from them.

    :raises RecordError: if a file is missing.
    """
    functions = require("pyspark.sql.functions", "spark")
    storage = require("pyspark", "spark").StorageLevel
    col, struct = functions.col, functions.struct
    files = [str(path.resolve()) for path in expand_lists(list(paths))]
    names = spark.createDataFrame([(name,) for name in files], "path string").repartition(len(files))
    captures = names.mapInArrow(_captures, _CAPTURE).persist(storage.DISK_ONLY)
    page = struct("depth", "number", "url", "text", "collected_at", "warc_record_id")
    newest = (
        captures.where(col("domain").isNotNull())
        .groupBy("domain", "address")
        .agg(functions.max_by(page, struct("collected_at", "number")).alias("page"))
    )
    fields = ("url", "text", "collected_at", "warc_record_id")
    pages = functions.slice(functions.sort_array(functions.collect_list("page")), 1, MAX_PAGES)
    sites = newest.groupBy("domain").agg(
        functions.transform(pages, lambda each: struct(*(each[name].alias(name) for name in fields))).alias(
            "pages"
        )
    )
    outcomes = (
        captures.where(col("outcome").isNotNull())
        .groupBy("outcome")
        .agg(functions.sum("count").alias("count"))
    )
    return sites.select(col("domain").alias("id"), "domain", "pages"), outcomes.orderBy("outcome")


def _captures(batches: Iterator[Any]) -> Iterator[Any]:
    """The pages of the files that the batches name, and at the end of each file how its records ended."""
    for batch in batches:
        for name in batch.column("path").to_pylist():
            outcomes, rows = Outcomes(), []
            for number, capture in enumerate(iter_captures(Path(name), outcomes, _counted)):
                found = {"domain": capture.domain, "url": capture.url, "text": capture.text, "number": number}
                found |= {"address": address_key(capture.url).hex(), "depth": depth(capture.url)}
                found |= {"collected_at": capture.collected_at, "warc_record_id": capture.warc_record_id}
                rows.append(found)
                if len(rows) == _ROWS_AT_ONCE:
                    yield _batch(rows)
                    rows = []
            yield _batch(rows + [{"outcome": outcome, "count": count} for outcome, count in outcomes.items()])


def _counted(file: str, number: int, reason: str) -> None:
    """Damage is in the outcomes too, which are all that a task can hand back."""


def _batch(rows: list[dict[str, Any]]) -> Any:
    pa = require("pyarrow", "spark")
    text, whole, small = pa.string(), pa.int64(), pa.int32()
    kinds = {
        "domain": text,
        "address": text,
        "depth": small,
        "collected_at": text,
        "number": whole,
        "url": text,
    }
    kinds |= {"text": text, "warc_record_id": text, "outcome": text, "count": whole}
    return pa.RecordBatch.from_pylist(rows, schema=pa.schema(kinds))

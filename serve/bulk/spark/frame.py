"""Scoring Spark data frames: `score_dataframe` in batches and in streams. It needs the extra `spark` (PySpark 4, Java 17).

The bundle travels to the executors as an archive and is opened once in each Python worker, which Spark keeps between
tasks. The function has no side effects: a task that runs twice gives its rows once, and the decision log is a column.
"""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....core.errors import MerchantGuardError, SettingsError
from ....core.extras import require
from ...bundle import Bundle
from ...bundle_reader import read_bundle
from ...decision_record import Recorder
from ...engine.variants import choose_variant
from ...evidence import EvidenceOptions
from ...scorer import Scorer
from ..core import DECISION_RECORD, ERROR, BatchOptions, BatchScorer, output_schema
from ..identity import ScoredBy
from ..rows import RESULT_COLUMNS

BATCH_BYTES = "spark.sql.execution.arrow.maxBytesPerBatch"
_BATCH_BYTES = 8 * 2**20
_MOST_BATCH_BYTES = 16 * 2**20
_KEPT_SCORERS = 2

_scorers: dict[tuple[str, str, float | None, int], Scorer] = {}
_scorers_lock = threading.Lock()
_loads = 0


@dataclass(frozen=True, slots=True)
class _Task:
    """What a Python worker needs to know; `folder` is a path that it can read, or the name of the archive."""

    folder: str
    shared: bool
    digest: str
    variant: str
    cascade: float | None
    options: BatchOptions
    given: Any
    log_key: bytes | None


def score_dataframe(
    df: Any,
    bundle: Path | str,
    *,
    text: str = "text",
    id: str = "id",
    keep_text: bool = False,
    variant: str = "auto",
    cascade: float | None = None,
    read_once: bool = True,
    previous: Any = None,
    log_key: bytes | None = None,
    partitions: int | None = None,
    shared: bool = False,
) -> Any:
    """The data frame with the columns of results added, and `error` with the reason where a row could not be scored.

    :param df: batch or stream; a stream cannot have `previous` or `partitions`.
    :param bundle: folder that the driver can read.
    :param text: column of texts, or of lists of pages {url, text or html}; it is left out of the result unless `keep_text`.
    :param variant: "auto" takes the fastest that the driver supports: executors are taken for like machines.
    :param previous: an earlier result, whose rows of the same text and settings are copied.
    :param log_key: the secret that hashes texts in decision records, which become the column `decision_record` (JSON).
    :param partitions: deal the rows to so many partitions first: a few long sites no longer lie in one task.
    :param shared: executors read the bundle from the same path; otherwise it travels with the job.
    :raises RecordError: if the columns do not fit.
    :raises SettingsError: on Spark Connect, or if Spark's batches are too large for texts.
    """
    require("pyspark", "spark")
    types = require("pyspark.sql.pandas.types", "spark")
    _refuse_connect(df)
    found = read_bundle(bundle)
    chosen = choose_variant(found, variant).name
    options = BatchOptions(text=text, id=id, keep_text=keep_text, read_once=read_once)
    _bound_batches(df.sparkSession)
    given = types.to_arrow_schema(df.schema)
    schema = output_schema(given, options, log=log_key is not None)
    folder = str(Path(bundle).resolve()) if shared else _ship(df.sparkSession, found)
    task = _Task(folder, shared, found.digest, chosen, cascade, options, given, log_key)
    copied, fresh = None, df
    if previous is not None:
        evidence = EvidenceOptions()
        by = ScoredBy.of(
            found.for_variant(chosen), variant=chosen, evidence=evidence, cascade=cascade, read_once=read_once
        )
        copied, fresh = _split(df, previous, options, by.key, schema)
    if partitions is not None:
        fresh = fresh.repartition(partitions)

    def score(batches: Iterator[Any]) -> Iterator[Any]:
        return score_batches(task, batches)

    scored = fresh.mapInArrow(score, types.from_arrow_schema(schema))
    return scored if copied is None else scored.unionByName(copied)


def score_batches(task: _Task, batches: Iterator[Any]) -> Iterator[Any]:
    """What runs in a Python worker: the batches of one partition, scored."""
    scorer = cached_scorer(task)
    recorder = None if task.log_key is None else Recorder(scorer.bundle, task.log_key, scorer.variant)
    score = BatchScorer(scorer, task.given, task.options, recorder=recorder)
    for batch in batches:
        yield score(batch)


def cached_scorer(task: _Task) -> Scorer:
    """The scorer of a task's bundle, opened once in each Python worker.

    It takes as many threads as the task has cores (`spark.task.cpus`).
    """
    global _loads
    context = require("pyspark", "spark").TaskContext.get()
    key = (task.digest, task.variant, task.cascade, context.cpus() if context else 1)
    with _scorers_lock:
        if key not in _scorers:
            while len(_scorers) >= _KEPT_SCORERS:
                _scorers.pop(next(iter(_scorers)))
            _scorers[key] = Scorer.load(
                _local_folder(task), threads=key[3], variant=task.variant, cascade=task.cascade
            )
            _loads += 1
        return _scorers[key]


def loads() -> int:
    """How many bundles this process has opened for Spark."""
    return _loads


def _local_folder(task: _Task) -> Path:
    if task.shared:
        return Path(task.folder)
    files = require("pyspark", "spark").SparkFiles
    return Path(files.getRootDirectory()) / task.folder


def _ship(spark: Any, bundle: Bundle) -> str:
    """Send the bundle to the executors as an archive; returns the name of the folder that it is unpacked to there."""
    name = f"merchantguard-{bundle.digest[:16]}"
    context = spark.sparkContext
    if not any(name in archive for archive in context.listArchives):
        # Spark serves the file from here for as long as the session lasts.
        folder = tempfile.mkdtemp(prefix="merchantguard-spark-")
        archive = shutil.make_archive(str(Path(folder) / name), "zip", bundle.path)
        context.addArchive(f"{archive}#{name}")
    return name


def _refuse_connect(df: Any) -> None:
    if type(df).__module__.startswith("pyspark.sql.connect"):
        raise SettingsError(
            "this data frame is of Spark Connect, which cannot send a bundle to the executors the way that "
            "is tested here; use a classic session (spark-submit, or master=...)"
        )


def _bound_batches(spark: Any) -> None:
    """Batches of texts must be small: the default of 64 MB and no limit of rows would hold thousands of long sites.

    :raises SettingsError: if somebody has set a larger size.
    """
    given = str(spark.conf.get(BATCH_BYTES))
    default = given.lower() in ("64mb", "64m", "67108864b", "67108864")
    if default:
        spark.conf.set(BATCH_BYTES, str(_BATCH_BYTES))
    elif _bytes(given) > _MOST_BATCH_BYTES:
        raise SettingsError(
            f"{BATCH_BYTES} is {given}: set 4m to 16m, texts and their results are held in memory"
        )


def _bytes(size: str) -> int:
    units = {"k": 2**10, "m": 2**20, "g": 2**30}
    digits = size.lower().rstrip("b")
    unit = units.get(digits[-1:], 1)
    try:
        return int(digits.rstrip("kmg")) * unit
    except ValueError as error:
        raise MerchantGuardError(f"{BATCH_BYTES} is {size!r}, not a size") from error


def _split(df: Any, previous: Any, options: BatchOptions, key: str, schema: Any) -> tuple[Any, Any]:
    """The rows that earlier results answer, with the answers, and the others."""
    functions = require("pyspark.sql.functions", "spark")
    col, lit = functions.col, functions.lit
    if df.schema[options.text].dataType.typeName() != "string":
        raise SettingsError(
            f"previous: the column {options.text!r} holds pages; earlier results are found by a text's hash"
        )
    columns = [name for name in RESULT_COLUMNS[1:] if name != "copied"]
    earlier = (
        previous.where((col("scored_with") == key) & col("text_hash").isNotNull())
        .dropDuplicates(["text_hash"])
        .select(col("text_hash").alias("_hash"), functions.struct(*columns).alias("_earlier"))
    )
    joined = df.withColumn("_hash", functions.sha2(col(options.text), 256)).join(earlier, "_hash", "left")
    given = [name for name in schema.names if name in df.columns]
    nulls = [
        lit(None).cast("string").alias(name) for name in (ERROR, DECISION_RECORD) if name in schema.names
    ]
    answers = [col(f"_earlier.{name}").alias(name) for name in columns]
    copied = joined.where(col("_earlier").isNotNull()).select(
        *given, *answers, lit(True).alias("copied"), *nulls
    )
    return copied, joined.where(col("_earlier").isNull()).select(*df.columns)

"""`merchantguard score --engine spark`: Parquet, JSON lines or WARC files in, a folder of Parquet out."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....core.errors import SettingsError, StorageError
from ....core.extras import require
from ....data.records.warc import is_warc
from ..core import DECISION_RECORD, ERROR
from ..log_key import read_key
from .frame import score_dataframe
from .warc import read_warc

_REJECTED = 3


def session(master: str | None = None, **settings: str) -> Any:
    """A classic Spark session whose workers run this Python.

    :param master: such as "local[4]"; None takes what spark-submit says, else all cores of this machine.
    :param settings: further settings, with "_" for ".".
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = require("pyspark.sql", "spark").SparkSession.builder.appName("merchantguard")
    if master is not None or "SPARK_MASTER" not in os.environ:
        builder = builder.master(master or "local[*]")
    for name, value in settings.items():
        builder = builder.config(name.replace("_", "."), value)
    return builder.getOrCreate()


def score_files(args: argparse.Namespace) -> int:
    """Do what `merchantguard score --engine spark` is asked; 3 if some rows could not be scored.

    :raises MerchantGuardError: if the input or the output cannot be used.
    """
    _check(args)
    spark = session(args.master)
    options: dict[str, Any] = {
        "text": args.text,
        "id": args.id,
        "variant": args.variant,
        "cascade": args.cascade,
    }
    options["read_once"] = not args.repeats
    if args.log_key is not None:
        options["log_key"] = read_key(args.log_key)
    if args.checkpoint is not None:
        score_folder(spark, args.files[0], args.out, args.checkpoint, args.bundle, **options)
    else:
        if args.previous is not None:
            options["previous"] = spark.read.parquet(str(args.previous))
        df = _read(spark, args.files, options)
        partitions = partitions_for(df, options["text"], cores=spark.sparkContext.defaultParallelism)
        scored = score_dataframe(df, args.bundle, partitions=partitions, **options)
        scored.write.parquet(str(args.out))
    return _summarise(spark.read.parquet(str(args.out)), args)


def score_folder(
    spark: Any,
    folder: Path | str,
    out: Path | str,
    checkpoint: Path | str,
    bundle: Path | str,
    *,
    files_at_once: int = 16,
    **options: Any,
) -> None:
    """Score the Parquet files that came into a folder since the last call with this checkpoint, each exactly once.

    After a crash the next call goes on with the files whose results are not complete. `out` must be read with Spark,
    which knows by its `_spark_metadata` which files count.

    :param files_at_once: files of one micro-batch, which is what a crash costs.
    :param options: of `score_dataframe`.
    """
    schema = spark.read.parquet(str(folder)).schema
    stream = spark.readStream.schema(schema).option("maxFilesPerTrigger", files_at_once).parquet(str(folder))
    writer = score_dataframe(stream, bundle, **options).writeStream.format("parquet").outputMode("append")
    writer = writer.option("path", str(out)).option("checkpointLocation", str(checkpoint))
    writer.trigger(availableNow=True).start().awaitTermination()


def partitions_for(df: Any, text: str, *, cores: int, characters: int = 20_000_000) -> int:
    """So many partitions that each holds about `characters`: rows are dealt one by one, so that long sites spread.

    At least four for each core: a core that is done early takes another.
    """
    functions = require("pyspark.sql.functions", "spark")
    length = functions.length(
        functions.to_json(text) if df.schema[text].dataType.typeName() == "array" else text
    )
    total = df.select(functions.sum(length)).first()[0] or 0
    return int(max(4 * cores, -(-total // characters)))


def _check(args: argparse.Namespace) -> None:
    for name in ("strict", "flat", "rejects", "carry", "skip_below"):
        if getattr(args, name):
            raise SettingsError(
                f"--{name.replace('_', '-')} is not for Spark: bad rows come with the column `error`, all columns stay"
            )
    if args.out is None:
        raise SettingsError("--engine spark writes a folder: give --out")
    if args.checkpoint is not None:
        if len(args.files) != 1 or not Path(args.files[0]).is_dir() or args.previous is not None:
            raise SettingsError("--checkpoint takes one folder of Parquet files, and no --previous")
    elif args.out.exists():
        raise StorageError(f"{args.out}: is there already; name another folder or remove it")


def _read(spark: Any, names: Sequence[str], options: dict[str, Any]) -> Any:
    paths = [Path(name) for name in names]
    if all(map(is_warc, paths)):
        sites, outcomes = read_warc(spark, paths)
        counts = ", ".join(f"{row['count']:,} {row['outcome']}" for row in outcomes.collect())
        print(f"captures: {counts}", file=sys.stderr)
        options |= {"text": "pages", "id": "id"}
        return sites
    if any(map(is_warc, paths)):
        raise SettingsError("WARC files and others in one job: score them apart")
    lines = all(path.name.endswith((".jsonl", ".jsonl.gz", ".ndjson")) for path in paths)
    return spark.read.json(list(names)) if lines else spark.read.parquet(*names)


def _summarise(scored: Any, args: argparse.Namespace) -> int:
    counts = {row["decision"]: row["count"] for row in scored.groupBy("decision").count().collect()}
    failed = scored.where(f"{ERROR} is not null").groupBy(ERROR).count().orderBy("count", ascending=False)
    reasons = failed.limit(3).collect()
    decided = ", ".join(f"{counts.get(name, 0):,} {name}" for name in ("block", "review", "clear"))
    print(f"scored {sum(counts.values()) - counts.get(None, 0):,}: {decided}", file=sys.stderr)
    if args.log is not None:
        log = scored.where(f"{DECISION_RECORD} is not null").select(DECISION_RECORD)
        log.write.mode("overwrite").text(str(args.log))
        print(f"wrote {args.log}", file=sys.stderr)
    print(f"wrote {args.out}", file=sys.stderr)
    for row in reasons:
        print(f"not scored: {row['count']:,} rows, {row[ERROR]}", file=sys.stderr)
    return _REJECTED if reasons else 0

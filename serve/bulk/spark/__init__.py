"""Scoring with Spark: data frames, streams of a folder that fills, crawls."""

from .frame import BATCH_BYTES, loads, score_dataframe
from .job import partitions_for, score_folder, session
from .warc import read_warc

__all__ = [
    "BATCH_BYTES",
    "loads",
    "partitions_for",
    "read_warc",
    "score_dataframe",
    "score_folder",
    "session",
]

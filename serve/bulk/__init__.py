"""Bulk scoring: Arrow batches, part files, Spark and WARC."""

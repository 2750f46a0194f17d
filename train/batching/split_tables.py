"""The labelled windows of every split, tokenised once and then opened from a cache."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import sha256_file
from ...core.labels import LabelMatrix
from ...data.cleaning.text import CLEANING_VERSION
from ...data.records.fingerprint import fingerprint_records
from ...data.records.record import Record, label_matrix
from ...data.splitting.splits import SPLITS
from ...data.taxonomy import Taxonomy
from ...data.windows import WindowTokenizer
from ..settings import Settings
from .dataset import SplitRecords, training_texts
from .localize import TrainingText, window_rows
from .shards import shard_paths, shard_records, shards_hash
from .training_table import training_table
from .weak import weak_hash, weak_records
from .window_table import LabelledWindows, build_window_table, open_window_table, window_tokenizer


def split_tables(
    data: SplitRecords, settings: Settings, tokenizer_file: Path, folder: Path
) -> dict[str, LabelledWindows]:
    """The labelled windows of each split that `data` has; the training split with everything that is trained on.

    :param folder: the run's folder, for windows that are not cached elsewhere and for rejected rows of shards.
    """
    tokenizer = window_tokenizer(tokenizer_file, settings.model)
    cache = _Cache(
        Path(settings.data.window_cache) if settings.data.window_cache else folder / "windows",
        _tokenizer_key(tokenizer, tokenizer_file),
    )
    tables = {
        split: labelled_windows(records, data.taxonomy, tokenizer, cache.place(fingerprint_records(records)))
        for split, records in _held_out(data).items()
    }
    groups = training_texts(data, settings.data, epochs=settings.optim.epochs, seed=settings.seed)
    groups += [[text] for text in _weak_texts(data, settings, folder)]
    parts = [fingerprint_records([text.record for group in groups for text in group]), data.taxonomy.ids]
    if settings.data.weak:
        parts.append(weak_hash(settings.data.weak))
    if settings.data.shards:
        others = [record for records in _held_out(data).values() for record in records]
        parts += [shards_hash(shard_paths(settings.data.shards)), fingerprint_records(others)]
    more = _shard_texts(data, settings, folder)
    train = training_table(groups, more, data.taxonomy, tokenizer, cache.place(*parts))
    return {"train": train, **tables}


def training_blocks(
    data: SplitRecords,
    settings: Settings,
    tokenizers: Sequence[WindowTokenizer],
    folder: Path,
    *,
    most: int,
) -> tuple[list[list[int]], LabelMatrix]:
    """Windows of the training texts with their labels, in memory: for the n-gram branch, which reads short blocks.

    It is unknown which window of a long record without quotes shows a violation: their positive cells are masked. Of
    composed pages those of the first epoch are taken. A text that is one window for several tokenizers is taken once.

    :param tokenizers: each cuts the texts into blocks of another length.
    :param most: most texts.
    """
    windows: list[list[int]] = []
    values, masks = [], []
    whole = set[tuple[int, ...]]()
    for number, tokenizer in enumerate(tokenizers):
        groups = training_texts(data, settings.data, epochs=1, seed=settings.seed)
        texts = chain((text for group in groups for text in group), _shard_texts(data, settings, folder))
        for rows in window_rows(islice(texts, most), data.taxonomy, tokenizer):
            for row in rows:
                alone = len(row.windows) == 1
                if alone and number and tuple(row.windows[0]) in whole:
                    continue
                if alone and not number:
                    whole.add(tuple(row.windows[0]))
                windows += row.windows
                values += [row.values] * len(row.windows)
                masks += [row.mask if alone else row.mask & (row.values < 0.5)] * len(row.windows)
    return windows, LabelMatrix(np.array(values), np.array(masks))


def _held_out(data: SplitRecords) -> dict[str, list[Record]]:
    return {split: data.records[split] for split in SPLITS[1:] if split in data.records}


def _weak_texts(data: SplitRecords, settings: Settings, folder: Path) -> list[TrainingText]:
    """The weak records: for the encoder alone, since the n-gram branch knows no soft targets."""
    if not settings.data.weak:
        return []
    held_out = [record for records in _held_out(data).values() for record in records]
    rejects = folder / "rejects-weak.jsonl"
    found = weak_records(settings.data.weak, data.taxonomy, held_out, rejects=rejects)
    return [TrainingText(record, weak=True) for record in found]


def _shard_texts(data: SplitRecords, settings: Settings, folder: Path) -> Iterator[TrainingText]:
    """The records of the shards, streamed."""
    if not settings.data.shards:
        return
    held_out = [record for records in _held_out(data).values() for record in records]
    rejects = folder / "rejects-shards.jsonl"
    for record in shard_records(shard_paths(settings.data.shards), data.taxonomy, held_out, rejects=rejects):
        yield TrainingText(record)


@dataclass(frozen=True, slots=True)
class _Cache:
    """A folder of window tables, named by what they are made from.

    :param key: identifies how texts become windows.
    """

    folder: Path
    key: str

    def place(self, *parts: Any) -> Path:
        """Where windows of the texts that `parts` identify are kept."""
        return self.folder / hashlib.sha256(json.dumps([self.key, parts]).encode()).hexdigest()[:20]


def _tokenizer_key(tokenizer: WindowTokenizer, file: Path) -> str:
    """Identifies cleaning, tokenizer and window sizes."""
    sizes = (tokenizer.window_tokens, tokenizer.stride_tokens, tokenizer.max_windows)
    return json.dumps([CLEANING_VERSION, sha256_file(file), sizes])


def labelled_windows(
    records: Sequence[Record], taxonomy: Taxonomy, tokenizer: WindowTokenizer, folder: Path
) -> LabelledWindows:
    """Labels and windows of `records`; the windows are stored in `folder`, or opened if they are there already."""
    if folder.is_dir():
        table = open_window_table(folder, pad_id=tokenizer.pad_id)
    else:
        table = build_window_table(records, tokenizer, folder)
    return LabelledWindows(table, label_matrix(records, taxonomy))

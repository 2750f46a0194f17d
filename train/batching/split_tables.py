"""The labelled windows of every split, tokenised once and then opened from a cache."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from ...core.files import sha256_file
from ...data.cleaning.text import CLEANING_VERSION
from ...data.records.fingerprint import fingerprint_records
from ...data.records.record import Record, label_matrix
from ...data.splitting.splits import SPLITS
from ...data.taxonomy import Taxonomy
from ...data.windows import WindowTokenizer
from ..model.mixture import with_any_violation
from ..settings import Settings
from .dataset import SplitRecords, training_records
from .shards import open_labelled, shard_paths, shard_records, shards_hash, stream_labelled
from .window_table import LabelledWindows, build_window_table, open_window_table, window_tokenizer


def split_tables(
    data: SplitRecords, settings: Settings, tokenizer_file: Path, folder: Path
) -> dict[str, LabelledWindows]:
    """The labelled windows of each split that `data` has; the training split with everything that is trained on.

    Where the model has a gate, the labels of the training split include the column of "some violation".

    :param folder: the run's folder, for windows that are not cached elsewhere and for rejected rows of shards.
    """
    tokenizer = window_tokenizer(tokenizer_file, settings.model)
    cache = _Cache(
        Path(settings.data.window_cache) if settings.data.window_cache else folder / "windows",
        _tokenizer_key(tokenizer, tokenizer_file),
    )
    held_out = {split: data.records[split] for split in SPLITS[1:] if split in data.records}
    train, alternatives = training_records(
        data.records["train"], data.taxonomy, settings.data, seed=settings.seed
    )
    tables = {
        split: labelled_windows(records, data.taxonomy, tokenizer, cache.place(fingerprint_records(records)))
        for split, records in held_out.items()
    }
    if settings.data.shards:
        others = [record for records in held_out.values() for record in records]
        labelled = _with_shards(train, others, data.taxonomy, settings, tokenizer, cache, folder)
    else:
        place = cache.place(fingerprint_records(train))
        labelled = labelled_windows(train, data.taxonomy, tokenizer, place, gate=settings.model.gate)
    return {"train": replace(labelled, alternatives=alternatives), **tables}


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
    records: Sequence[Record],
    taxonomy: Taxonomy,
    tokenizer: WindowTokenizer,
    folder: Path,
    *,
    gate: bool = False,
) -> LabelledWindows:
    """Labels and windows of `records`; the windows are stored in `folder`, or opened if they are there already.

    :param gate: add the column of "some violation".
    """
    if folder.is_dir():
        table = open_window_table(folder, pad_id=tokenizer.pad_id)
    else:
        table = build_window_table(records, tokenizer, folder)
    labels = label_matrix(records, taxonomy)
    return LabelledWindows(table, with_any_violation(labels) if gate else labels)


def _with_shards(
    train: Sequence[Record],
    held_out: Sequence[Record],
    taxonomy: Taxonomy,
    settings: Settings,
    tokenizer: WindowTokenizer,
    cache: _Cache,
    folder: Path,
) -> LabelledWindows:
    """Labels and windows of the training split and the shards, written if they are not in the cache."""
    paths, gate = shard_paths(settings.data.shards), settings.model.gate
    place = cache.place(
        fingerprint_records(train), shards_hash(paths), fingerprint_records(held_out), taxonomy.ids, gate
    )
    if place.is_dir():
        return open_labelled(place, pad_id=tokenizer.pad_id)
    more = shard_records(paths, taxonomy, held_out, rejects=folder / "rejects-shards.jsonl")
    return stream_labelled(chain(train, more), taxonomy, tokenizer, place, gate=gate)

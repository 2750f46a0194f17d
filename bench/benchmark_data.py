"""Real text as records: the use of each folder, and the cells that it labels (`sources.yaml`)."""

import gzip
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from merchantguard.core.errors import RecordError, TaxonomyError
from merchantguard.data.records.record import Record, parse_record
from merchantguard.data.taxonomy import Taxonomy

SOURCES_FILE = Path(__file__).with_name("sources.yaml")
KEYS = ("trains", "distribution", "labelled", "compliant", "why")

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Source:
    """One folder: `labelled` are the policies that a row with labels is labelled for; with `labels_compliant` a row
    without labels is compliant with the whole taxonomy."""

    folder: str
    trains: bool
    out_of_distribution: bool
    labelled: tuple[str, ...]
    labels_compliant: bool
    why: str


def load_sources(taxonomy: Taxonomy, path: Path = SOURCES_FILE) -> dict[str, Source]:
    """Read the table of sources.

    :raises TaxonomyError: listing all its faults together.
    """
    table: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    faults: list[str] = []
    for folder, entry in table.items():
        if set(entry) != set(KEYS):
            faults.append(f"{folder}: needs exactly the keys {', '.join(KEYS)}")
            continue
        faults += [f"{folder}: no policy {name!r}" for name in entry["labelled"] if name not in taxonomy.ids]
        if entry["distribution"] not in ("in", "out"):
            faults.append(f"{folder}: distribution is {entry['distribution']!r}, not in or out")
        if entry["compliant"] not in ("all", "none"):
            faults.append(f"{folder}: compliant is {entry['compliant']!r}, not all or none")
        if entry["trains"] and entry["distribution"] == "out":
            faults.append(f"{folder}: a folder with trains: true cannot be out of distribution")
    if faults:
        raise TaxonomyError(f"{path}: " + "; ".join(faults))
    return {folder: _source(folder, entry) for folder, entry in table.items()}


def _source(folder: str, entry: Mapping[str, Any]) -> Source:
    return Source(
        folder=folder,
        trains=bool(entry["trains"]),
        out_of_distribution=entry["distribution"] == "out",
        labelled=tuple(entry["labelled"]),
        labels_compliant=entry["compliant"] == "all",
        why=entry["why"],
    )


def load_benchmarks(
    root: Path,
    part: str,
    taxonomy: Taxonomy,
    *,
    sources: Iterable[Source],
    on_missing: Callable[[str], None],
) -> dict[str, list[Record]]:
    """Read `<root>/<folder>/<part>.jsonl.gz` of each source: folder -> records, `domain` being the group.

    A missing folder is left out, and `on_missing` is called with a message.

    :raises RecordError: if a row contradicts the table of sources.
    """
    loaded: dict[str, list[Record]] = {}
    for source in sources:
        path = Path(root) / source.folder / f"{part}.jsonl.gz"
        if not path.is_file():
            on_missing(f"{path} is missing: {source.folder} is left out")
            continue
        loaded[source.folder] = [
            read_row(row, source, taxonomy, row_number=number)
            for number, row in enumerate(read_rows(path), start=1)
        ]
    return loaded


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a gzipped JSONL file.

    :raises RecordError: if there is no such file.
    """
    if not path.is_file():
        raise RecordError(f"{path} is missing: give the folder that contains it")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_row(row: Mapping[str, Any], source: Source, taxonomy: Taxonomy, *, row_number: int) -> Record:
    """A record of one row, with `unknown` for the policies that its source does not label.

    :raises RecordError: naming the folder and the row.
    """
    labels = row.get("labels", [])
    if not labels and not source.labels_compliant:
        raise RecordError(
            f"{source.folder}, row {row_number}: no label, but sources.yaml says that such rows do not occur"
        )
    unknown = [policy for policy in taxonomy.ids if policy not in source.labelled and policy not in labels]
    fields = {**row, "domain": row["group"], "source": source.folder, "unknown": unknown if labels else []}
    try:
        return parse_record(fields, taxonomy, row_number=row_number)
    except RecordError as error:
        raise RecordError(f"{source.folder}: {error}") from error


def subsample(
    records: Sequence[Record], *, limit: int, compliant_share: float = 0.5, rare: int = 150, seed: int = 0
) -> list[Record]:
    """About `limit` records, in their original order, the same ones for the same seed.

    Every record of a policy with at most `rare` records is kept, and every compliant one marked as a near miss. The rest
    of the violating quota is shared evenly between policies, that of the compliant quota between sources: many similar
    titles teach little. Rare records are never dropped, so there can be more than `limit`.
    """
    order = list(range(len(records)))
    random.Random(seed).shuffle(order)
    labelled = [index for index in order if records[index].labels]
    compliant = [index for index in order if not records[index].labels]
    quota = round(limit * compliant_share)
    chosen = _balanced_labelled(records, labelled, limit=limit - quota, rare=rare)
    near = [index for index in compliant if records[index].extra.get("near_miss")]
    by_source = _grouped((str(records[index].extra.get("source")), index) for index in compliant)
    chosen |= _round_robin(by_source, chosen=set(near), limit=quota)
    return [records[index] for index in sorted(chosen)]


def _balanced_labelled(records: Sequence[Record], order: Sequence[int], *, limit: int, rare: int) -> set[int]:
    by_policy = _grouped((policy, index) for index in order for policy in records[index].labels)
    kept = {index for rows in by_policy.values() if len(rows) <= rare for index in rows}
    return _round_robin(by_policy, chosen=kept, limit=limit)


def _grouped(pairs: Iterable[tuple[Key, int]]) -> dict[Key, list[int]]:
    groups: dict[Key, list[int]] = {}
    for key, index in pairs:
        groups.setdefault(key, []).append(index)
    return groups


def _round_robin(groups: Mapping[Any, Sequence[int]], *, chosen: set[int], limit: int) -> set[int]:
    """Add one index of each group in turn to `chosen`, until it holds `limit` or the groups are empty."""
    chosen = set(chosen)
    queues = {key: iter(rows) for key, rows in sorted(groups.items())}
    while queues and len(chosen) < limit:
        for key in list(queues):
            fresh = next((index for index in queues[key] if index not in chosen), None)
            if fresh is None:
                del queues[key]
            elif len(chosen) < limit:
                chosen.add(fresh)
    return chosen


def split_by_group(
    records: Sequence[Record], fractions: Mapping[str, float], *, seed: int
) -> dict[str, list[Record]]:
    """Divide records by a hash of their domain: name of the part -> records; a domain stays in one part.

    :param fractions: share of each part.
    :raises ValueError: if they do not add up to 1.
    """
    if abs(sum(fractions.values()) - 1.0) > 1e-9:
        raise ValueError(f"the fractions add up to {sum(fractions.values())}, not to 1")
    parts: dict[str, list[Record]] = {name: [] for name in fractions}
    for record in records:
        digest = hashlib.sha256(f"{seed}:{record.domain or record.id}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        parts[_part_at(place, fractions)].append(record)
    return parts


def _part_at(place: float, fractions: Mapping[str, float]) -> str:
    end = 0.0
    for name, share in fractions.items():
        end += share
        if place < end:
            return name
    return name  # the sum was rounded below 1

"""The records that are shipped with the package, apart from the corpus each labelled by the shipped taxonomy:

- the corpus: merchants to train, calibrate and test on;
- everyday texts: the ordinary world, and offers and near misses among it, split like the corpus;
- the phrasebook: short texts that teach the words of a trade, only trained on, never held out;
- ordinary texts: honest merchants, never trained on; thresholds are certified on them.

Under a taxonomy of one's own, everyday texts, phrases and ordinary texts are labelled only for the policies that both
taxonomies define in the same words.

`python -m merchantguard.data.shipped` prints the counts that the corpus's README gives.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Literal

from ..core.errors import RecordError
from .records.readers import read_records
from .records.record import Record
from .taxonomy import Taxonomy, load_taxonomy

SHIPPED = "shipped"
"""Stands for the project's own files in a list of files."""

Collection = Literal["everyday", "phrasebook", "ordinary"]

# Whose lines belong together: a shop, or the two pages of a contrast pair.
_GROUPS = ("seller", "pair")


def corpus_paths() -> list[Path]:
    """Return the files of the shipped corpus, in order.

    :raises RecordError: if they are not installed as files, as in a zip archive.
    """
    return _shipped_files("corpus")


def _shipped_files(name: str) -> list[Path]:
    """The record files of `data/NAME/`, in order.

    :raises RecordError: if they are not installed as files, as in a zip archive.
    """
    folder = files(f"merchantguard.data.{name}")
    paths = [Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".jsonl")]
    if not paths or not all(path.is_file() for path in paths):
        raise RecordError(f"the shipped {name} is not at {folder}; install merchantguard again, unpacked")
    return sorted(paths)


def collection_files(entries: Sequence[str], collection: Collection) -> list[Path]:
    """The files that `collection_records` reads."""
    return [
        path
        for entry in entries
        for path in (_shipped_files(collection) if entry == SHIPPED else [Path(entry)])
    ]


def collection_records(entries: Sequence[str], collection: Collection, taxonomy: Taxonomy) -> list[Record]:
    """The records of all `entries`, record files or `SHIPPED`, in order, labelled by `taxonomy`.

    The field `source` of a record is the name of its file, and its domain that of the shop that lists it, if any.

    :raises RecordError: naming file and row, at the first that cannot be used.
    """
    found: list[Record] = []
    for entry in entries:
        if entry != SHIPPED:
            found += _with_source(Path(entry), taxonomy)
            continue
        shipped = load_taxonomy()
        records = [r for path in _shipped_files(collection) for r in _with_source(path, shipped)]
        found += [r for record in records if (r := _carried_over(record, shipped, taxonomy)) is not None]
    return found


def _with_source(path: Path, taxonomy: Taxonomy) -> list[Record]:
    return [
        replace(
            record,
            domain=record.domain or next((str(record.extra[g]) for g in _GROUPS if g in record.extra), None),
            extra={"source": path.name.partition(".")[0]},
        )
        for record in read_records([path], taxonomy, strict=True).records
    ]


def _carried_over(record: Record, shipped: Taxonomy, taxonomy: Taxonomy) -> Record | None:
    """The record under another taxonomy; None if it has no label for any policy there."""
    same = {policy.id for policy in shipped.policies if policy in taxonomy.policies}
    known = same - set(record.unknown)
    if not known:
        return None
    return replace(
        record,
        labels=tuple(policy for policy in record.labels if policy in known),
        unknown=tuple(policy for policy in taxonomy.ids if policy not in known),
        evidence={policy: quotes for policy, quotes in record.evidence.items() if policy in known},
    )


def describe_corpus(records: Sequence[Record], taxonomy: Taxonomy) -> str:
    """Count records by policy, form, country and length, as Markdown tables."""
    policies = Counter(policy for record in records for policy in record.labels)
    lengths = sorted(len(record.text.split()) for record in records)
    domains = {record.domain for record in records if record.domain is not None}
    counted = {
        "policy": [(policy, policies[policy]) for policy in taxonomy.ids],
        "form": Counter(str(record.extra.get("form")) for record in records).most_common(),
        "country": Counter(str(record.country) for record in records).most_common(),
        "labels of a record": sorted(Counter(str(len(record.labels)) for record in records).items()),
    }
    quotes = sum(len(some) for record in records for some in record.evidence.values())
    summary = (
        f"{len(records):,} records, {len(domains):,} domains, {sum(policies.values())} labels, "
        f"{quotes:,} quotes; words of a text: {lengths[0]} to {lengths[-1]}, "
        f"median {lengths[len(lengths) // 2]}"
    )
    lines = [summary]
    for name, pairs in counted.items():
        lines += [
            "",
            f"| {name} | records |",
            "|---|---:|",
            *(f"| {key} | {count} |" for key, count in pairs),
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    shipped = load_taxonomy()
    print(describe_corpus(read_records(corpus_paths(), shipped, strict=True).records, shipped))

"""The records that are shipped with the package: the corpus, and the phrasebook, whose short texts teach the words of a trade.

Phrases are only trained on, never held out. The shipped ones are labelled by the shipped taxonomy; under another one
they are labelled only for the policies that both define in the same words.

`python -m merchantguard.data.shipped` prints the counts that the corpus's README gives.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from ..core.errors import RecordError
from .records.readers import read_records
from .records.record import Record
from .taxonomy import Taxonomy, load_taxonomy

SHIPPED = "shipped"
"""Stands for the shipped phrasebook in a list of files."""


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


def phrase_records(entries: Sequence[str], taxonomy: Taxonomy) -> list[Record]:
    """The phrases of all `entries`, record files or `SHIPPED`, in order, labelled by `taxonomy`.

    :raises RecordError: naming file and row, at the first that cannot be used.
    """
    found: list[Record] = []
    for entry in entries:
        if entry == SHIPPED:
            shipped = load_taxonomy()
            phrases = read_records(_shipped_files("phrasebook"), shipped, strict=True).records
            found += [r for phrase in phrases if (r := _carried_over(phrase, shipped, taxonomy)) is not None]
        else:
            found += read_records([Path(entry)], taxonomy, strict=True).records
    return found


def phrase_files(entries: Sequence[str]) -> list[Path]:
    """The files that `phrase_records` reads."""
    return [
        path
        for entry in entries
        for path in (_shipped_files("phrasebook") if entry == SHIPPED else [Path(entry)])
    ]


def _carried_over(phrase: Record, shipped: Taxonomy, taxonomy: Taxonomy) -> Record | None:
    """The phrase under another taxonomy; None if it has no label for any policy there."""
    same = {policy.id for policy in shipped.policies if policy in taxonomy.policies}
    known = same - set(phrase.unknown)
    if not known:
        return None
    labels = tuple(policy for policy in phrase.labels if policy in known)
    return replace(phrase, labels=labels, unknown=tuple(p for p in taxonomy.ids if p not in known))


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

"""Short texts that teach the words of a trade: the phrasebook that is shipped with the package, and files like it.

They are only trained on, never held out to judge by. The shipped ones are labelled by the shipped taxonomy; under
another one they speak of those policies alone that are worded alike in both.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .records.readers import read_records
from .records.record import Record
from .shipped import shipped_files
from .taxonomy import Taxonomy, load_taxonomy

SHIPPED = "shipped"
"""Names the shipped phrasebook where files are named."""


def phrase_records(entries: Sequence[str], taxonomy: Taxonomy) -> list[Record]:
    """The phrases of all `entries`, record files or `SHIPPED`, in order, labelled by `taxonomy`.

    :raises RecordError: naming file and row, at the first that cannot be used.
    """
    found: list[Record] = []
    for entry in entries:
        if entry == SHIPPED:
            shipped = load_taxonomy()
            phrases = read_records(shipped_files("phrasebook"), shipped, strict=True).records
            found += [r for phrase in phrases if (r := _carried_over(phrase, shipped, taxonomy)) is not None]
        else:
            found += read_records([Path(entry)], taxonomy, strict=True).records
    return found


def phrase_files(entries: Sequence[str]) -> list[Path]:
    """The files that `phrase_records` reads."""
    return [
        path
        for entry in entries
        for path in (shipped_files("phrasebook") if entry == SHIPPED else [Path(entry)])
    ]


def _carried_over(phrase: Record, shipped: Taxonomy, taxonomy: Taxonomy) -> Record | None:
    """The phrase under another taxonomy; None where it says nothing of that one's policies."""
    same = {policy.id for policy in shipped.policies if policy in taxonomy.policies}
    known = same - set(phrase.unknown)
    if not known:
        return None
    labels = tuple(policy for policy in phrase.labels if policy in known)
    return replace(phrase, labels=labels, unknown=tuple(p for p in taxonomy.ids if p not in known))

"""Training records made of passages: what reviewers quoted as evidence, and passages of compliant records.

A label applies to a whole page; the quote says which line shows it. A model trained on both can read listings and titles
as short as a quote, and finds that line when it has to show evidence.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from ..passages import split_passages
from ..records.record import Record

# Shorter ones ("Home", "About us") carry no information.
_SHORTEST = 20


def quote_records(records: Sequence[Record]) -> list[Record]:
    """One record for each distinct quote of each record, labelled with the policies it was quoted for.

    The record's other labels are unknown in the quote, which may or may not show them. A policy that the
    record does not violate is not violated by its quotes either.
    """
    made = []
    for record in records:
        policies_of: dict[str, list[str]] = {}
        for policy, quotes in record.evidence.items():
            for quote in quotes:
                policies_of.setdefault(quote, []).append(policy)
        for number, (quote, policies) in enumerate(policies_of.items()):
            others = tuple(policy for policy in record.labels if policy not in policies)
            made.append(_part(record, f"quote-{number}", quote, tuple(policies), (*record.unknown, *others)))
    return made


def compliant_passages(records: Sequence[Record], *, per_record: int, seed: int) -> list[Record]:
    """Up to `per_record` passages, drawn by `seed`, of each record that is compliant in every policy."""
    made = []
    for record in records:
        if record.labels or record.unknown:
            continue
        ranges = [(a, b) for a, b in split_passages(record.text) if b - a >= _SHORTEST]
        # Seeded by the record too: its passages do not depend on the other records.
        drawn = random.Random(f"{seed} {record.id}").sample(ranges, min(per_record, len(ranges)))
        for number, (start, end) in enumerate(drawn):
            made.append(_part(record, f"passage-{number}", record.text[start:end], (), ()))
    return made


def _part(record: Record, name: str, text: str, labels: tuple[str, ...], unknown: tuple[str, ...]) -> Record:
    return replace(
        record, id=f"{record.id}#{name}", text=text, parts=(), labels=labels, unknown=unknown, evidence={}
    )

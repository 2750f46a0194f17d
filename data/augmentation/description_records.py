"""Training records made of the taxonomy itself: each thing that a policy covers violates it, each thing that it does not
cover is a near miss of it. So a policy is known by its wording before the first merchant is labelled."""

import re

from ..records.record import Record, parse_record
from ..taxonomy import Policy, Taxonomy

_SEPARATOR = re.compile(r"[,;]\s+")


def description_records(taxonomy: Taxonomy) -> list[Record]:
    """One record for each part, between commas, of every policy's `covers` and `not`; other policies are unknown in it."""
    return [record for policy in taxonomy.policies for record in _of_policy(policy, taxonomy)]


def _of_policy(policy: Policy, taxonomy: Taxonomy) -> list[Record]:
    others = [name for name in taxonomy.ids if name != policy.id]
    made = []
    for kind, text, labels in (("covers", policy.covers, [policy.id]), ("not", policy.excludes, [])):
        for number, part in enumerate(filter(None, map(str.strip, _SEPARATOR.split(text)))):
            fields = {
                "id": f"taxonomy#{policy.id}-{kind}-{number}",
                "text": part,
                "labels": labels,
                "unknown": others,
            }
            made.append(parse_record(fields, taxonomy, row_number=number))
    return made

"""What records hold: labels, languages, lengths, domains, duplicates, and how much of each text will be read."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..cleaning.text import clean_parts
from ..languages import language_of
from ..records.record import Record, label_matrix
from ..splitting.near_duplicates import near_duplicate_groups
from ..splitting.splits import record_groups
from ..taxonomy import Taxonomy
from ..windows import Windows, WindowTokenizer

_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of the texts a model reads: records that are cut, and the median share that is read of those."""

    cut: int
    share: float
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """Figures of a set of records.

    :param characters: lowest, quartiles and highest length of a text.
    :param groups: of one domain or near-equal text, which splits keep together; of each policy those with a record of it.
    :param reading: None without a tokenizer.
    """

    records: int
    labels: Mapping[str, int]
    groups_by_policy: Mapping[str, int]
    groups: int
    violating: int
    compliant: int
    unlabelled: int
    partly: int
    languages: Mapping[str, int]
    characters: tuple[int, ...]
    short: int
    domains: int
    without_domain: int
    largest_domain: tuple[str, int]
    same_text: int
    near_text: int
    contradictions: int
    reading: Reading | None
    extras: Mapping[str, int] = field(default_factory=dict)


SHORT = 40
"""Characters: a shorter text says hardly anything of a merchant."""


def profile_records(
    records: Sequence[Record],
    taxonomy: Taxonomy,
    *,
    tokenizer: WindowTokenizer | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Profile:
    """Count what is in the records; time is that of cleaning and tokenising them.

    :param on_progress: called now and then with the number of texts that are read.
    """
    labels = label_matrix(records, taxonomy)
    groups = record_groups(records)
    copies = near_duplicate_groups([record.text for record in records])
    texts = Counter(record.text for record in records)
    domains = Counter(record.domain for record in records if record.domain)
    languages, reading = _read(records, tokenizer, on_progress)
    lengths = np.array([len(record.text) for record in records])
    positive = labels.positive
    return Profile(
        records=len(records),
        labels=dict(zip(taxonomy.ids, positive.sum(axis=0).tolist(), strict=True)),
        groups_by_policy={
            policy: len(set(groups[positive[:, k]].tolist())) for k, policy in enumerate(taxonomy.ids)
        },
        groups=len(set(groups.tolist())),
        violating=int(labels.violating.sum()),
        compliant=int(labels.compliant.sum()),
        unlabelled=int((~labels.labelled).sum()),
        partly=int((labels.labelled & ~labels.mask.all(axis=1)).sum()),
        languages=dict(languages.most_common()),
        characters=tuple(int(q) for q in np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1])),
        short=int((lengths < SHORT).sum()),
        domains=len(domains),
        without_domain=sum(not record.domain for record in records),
        largest_domain=next(iter(domains.most_common(1)), ("", 0)),
        same_text=sum(count - 1 for count in texts.values()),
        near_text=len(records) - len(set(copies.tolist())),
        contradictions=_contradictions(records, copies),
        reading=reading,
        extras=dict(Counter(name for record in records for name in record.extra).most_common()),
    )


def _contradictions(records: Sequence[Record], copies: np.ndarray) -> int:
    """Groups of near-equal texts whose labels differ, where all of them are labelled."""
    seen: dict[int, set[tuple[str, ...]]] = {}
    for record, group in zip(records, copies.tolist(), strict=True):
        if not record.unknown:
            seen.setdefault(group, set()).add(tuple(sorted(record.labels)))
    return sum(len(labels) > 1 for labels in seen.values())


def _read(
    records: Sequence[Record],
    tokenizer: WindowTokenizer | None,
    on_progress: Callable[[int], None] | None,
) -> tuple[Counter[str], Reading | None]:
    """Languages, and how much is read of each text."""
    languages: Counter[str] = Counter()
    cut: list[tuple[str, float]] = []
    for start in range(0, len(records), _CHUNK):
        chunk = records[start : start + _CHUNK]
        cleaned = [clean_parts(record.text, record.hidden_from) for record in chunk]
        languages.update(language_of(text.text) for text, _ in cleaned)
        if tokenizer is not None:
            windows = tokenizer.encode_batch([text.text for text, _ in cleaned], [at for _, at in cleaned])
            for record, (text, _), found in zip(chunk, cleaned, windows, strict=True):
                if found.truncated:
                    cut.append((record.id, _covered(found) / len(text.text)))
        if on_progress is not None:
            on_progress(min(start + _CHUNK, len(records)))
    if tokenizer is None:
        return languages, None
    share = float(np.median([read for _, read in cut])) if cut else 1.0
    return languages, Reading(len(cut), share, tuple(name for name, _ in cut[:3]))


def _covered(found: Windows) -> int:
    """Characters of the clean text that lie in some window."""
    end = covered = 0
    for window in sorted(found.windows, key=lambda window: window.start):
        covered += max(0, window.end - max(end, window.start))
        end = max(end, window.end)
    return covered

"""From record files to the records of each split, and to the records that the model is trained on."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from ...core.errors import RunError
from ...core.files import sha256_file
from ...data.augmentation.disguise import disguised_copies
from ...data.augmentation.quotes import compliant_passages, quote_records
from ...data.records.fingerprint import fingerprint_records
from ...data.records.readers import read_records
from ...data.records.record import Record, label_matrix
from ...data.shipped import corpus_paths, phrase_files, phrase_records
from ...data.splitting.splits import SPLITS, SplitManifest, make_splits
from ...data.taxonomy import Taxonomy, load_taxonomy
from ..settings import DataSettings


@dataclass(frozen=True, slots=True)
class SplitRecords:
    """The records of a run by split, the files they come from, and the manifest of the splits."""

    taxonomy: Taxonomy
    records: dict[str, list[Record]]
    manifest: SplitManifest | None
    files: dict[str, str]
    """Path of each record file and the SHA-256 of its bytes."""
    rejected: int = 0
    """Number of bad rows, which are left out."""

    def data_hash(self) -> str:
        """SHA-256 over the records of every split: what the run is trained and evaluated on."""
        parts = [fingerprint_records(self.records.get(name, [])) for name in SPLITS]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def load_split_records(settings: DataSettings, *, strict: bool, rejects: Path | None) -> SplitRecords:
    """Read the record files of the settings (or the shipped corpus) and split them.

    :raises TaxonomyError: if the taxonomy file is wrong.
    :raises RecordError: if a file cannot be read, or, when `strict`, at the first bad row.
    :raises SplitError: if the records cannot be split as asked.
    """
    taxonomy = load_taxonomy(Path(settings.taxonomy) if settings.taxonomy else None)
    paths = [Path(name) for name in settings.records] or corpus_paths()
    read = read_records(paths, taxonomy, strict=strict, rejects=rejects)
    manifest = make_splits(
        read.records,
        taxonomy,
        fractions=settings.fractions,
        seed=settings.split_seed,
        by_time=settings.by_time,
    )
    by_id = {record.id: record for record in read.records}
    records = {name: [by_id[i] for i in ids] for name, ids in manifest.ids.items()}
    files = {str(path): sha256_file(path) for path in [*paths, *phrase_files(settings.phrasebook)]}
    return SplitRecords(taxonomy, records, manifest, files, rejected=len(read.faults))


def check_positives(split: str, records: Sequence[Record], taxonomy: Taxonomy) -> list[str]:
    """Policies without a positive in this split, in the taxonomy's order.

    :raises RunError: if the split is empty or no policy has a positive, as nothing can be learnt or measured then.
    """
    if not records:
        raise RunError(f"{split}: the split has no records; add data or change its share")
    positives = label_matrix(records, taxonomy).positive.sum(axis=0)
    if not positives.any():
        raise RunError(f"{split}: none of its {len(records)} records has a label; add labelled records")
    return [policy for policy, count in zip(taxonomy.ids, positives, strict=True) if count == 0]


def training_records(
    records: Sequence[Record], taxonomy: Taxonomy, settings: DataSettings, *, seed: int
) -> tuple[list[Record], list[tuple[int, ...]]]:
    """The records that the model is trained on, and their `LabelledWindows.alternatives`.

    They are the training split, the quotes and compliant passages from it that the settings ask for, the phrasebook, and
    disguised copies of these short texts. Alternatives are a passage and its copies, or the phrases that take turns and
    their copies.

    :raises RecordError: if a file of the phrasebook cannot be used.
    """
    quotes = quote_records(records) if settings.quotes else []
    passages = compliant_passages(records, per_record=settings.compliant_passages, seed=seed)
    phrases = phrase_records(settings.phrasebook, taxonomy)
    random.Random(seed).shuffle(phrases)
    turns = [
        phrases[start : start + settings.phrase_turns]
        for start in range(0, len(phrases), settings.phrase_turns)
    ]
    groups = [[record] for record in records]
    for short in [*([one] for one in (*quotes, *passages)), *turns]:
        groups.append([*short, *disguised_copies(short, per_record=settings.disguised_copies, seed=seed)])
    ends = list(accumulate(map(len, groups)))
    alternatives = [tuple(range(end - len(group), end)) for group, end in zip(groups, ends, strict=True)]
    return [record for group in groups for record in group], alternatives

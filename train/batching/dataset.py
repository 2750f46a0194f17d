"""From record files to the records of each split, and to the records that the model is trained on."""

import hashlib
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import RecordError, RunError
from ...core.files import sha256_file
from ...data.augmentation.composition import PageParts, compose_pages
from ...data.augmentation.disguise import disguised_copies
from ...data.augmentation.quotes import compliant_passages, quote_records
from ...data.check.labels import require_labels
from ...data.records.fingerprint import fingerprint_records
from ...data.records.readers import read_records
from ...data.records.record import Record, label_matrix
from ...data.records.rejections import Rejections
from ...data.shipped import collection_files, collection_records, corpus_paths
from ...data.splitting.splits import SPLITS, SplitManifest, make_splits
from ...data.taxonomy import Taxonomy, load_taxonomy
from ..settings import DataSettings
from .localize import TrainingText
from .weak import weak_paths

# Shorter everyday texts take turns, longer ones are in every epoch.
_SHORT_CHARACTERS = 300


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
    everyday: frozenset[str] = frozenset()
    """Ids of the records that are everyday texts."""

    def data_hash(self) -> str:
        """SHA-256 over the records of every split: what the run is trained and evaluated on."""
        parts = [fingerprint_records(self.records.get(name, [])) for name in SPLITS]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


# Of the everyday texts more are held out than of the corpus: they are short, and what thresholds may promise rests on them.
_EVERYDAY_FRACTIONS = {"train": 0.62, "validation": 0.05, "calibration": 0.23, "test": 0.1}
_ORDINARY_FRACTIONS = {"calibration": 0.85, "test": 0.15}


def load_split_records(settings: DataSettings, *, strict: bool, rejects: Path | None) -> SplitRecords:
    """Read the record files of the settings (or the shipped corpus) and split them; everyday and ordinary texts join them.

    :raises TaxonomyError: if the taxonomy file is wrong.
    :raises RecordError: if a file cannot be read, or, when `strict`, at the first bad row.
    :raises SplitError: if the records cannot be split as asked.
    """
    taxonomy = load_taxonomy(Path(settings.taxonomy) if settings.taxonomy else None)
    paths = [Path(name) for name in settings.records] or corpus_paths()
    read = read_records(paths, taxonomy, strict=strict, rejects=rejects)
    rejections = Rejections(read.faults)
    if rejections.are_most(len(read.records)):
        message = rejections.explain(len(read.records))
        if not read.records:
            raise RecordError(message)
        print(message, file=sys.stderr)
    require_labels(paths, read.records, taxonomy)
    seed = settings.split_seed
    manifest = make_splits(
        read.records, taxonomy, fractions=settings.fractions, seed=seed, by_time=settings.by_time
    )
    records = list(read.records)
    everyday = collection_records(settings.everyday, "everyday", taxonomy)
    ordinary = collection_records(settings.ordinary, "ordinary", taxonomy)
    for more, fractions in ((everyday, _EVERYDAY_FRACTIONS), (ordinary, _ORDINARY_FRACTIONS)):
        if more:
            parts = make_splits(more, taxonomy, fractions=fractions, seed=seed)
            records += more
            manifest = manifest.extended(parts.ids, records)
    files = {str(path): sha256_file(path) for path in [*paths, *shipped_files(settings)]}
    return SplitRecords(
        taxonomy,
        manifest.select(records),
        manifest,
        files,
        rejected=len(read.faults),
        everyday=frozenset(record.id for record in everyday),
    )


def shipped_files(settings: DataSettings) -> list[Path]:
    """The files of everyday texts, phrases, ordinary texts and weak records that the settings name."""
    return [
        *collection_files(settings.everyday, "everyday"),
        *collection_files(settings.phrasebook, "phrasebook"),
        *collection_files(settings.ordinary, "ordinary"),
        *weak_paths(settings.weak),
    ]


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


def training_texts(
    data: SplitRecords, settings: DataSettings, *, epochs: int, seed: int
) -> list[list[TrainingText]]:
    """What the model is trained on: groups of alternative texts, of which an epoch takes one, in turn.

    First come the records of the training split, each by itself, then the quotes and compliant passages from them that the
    settings ask for, everyday texts and phrases that take turns, all of these short ones with disguised copies, and
    composed pages, new ones in each epoch.

    :raises RecordError: if a file of the phrasebook cannot be used.
    """
    records = data.records["train"]
    everyday = [record for record in records if record.id in data.everyday]
    short = [record for record in everyday if len(record.text) <= _SHORT_CHARACTERS]
    turning = {record.id for record in short}
    own = [record for record in records if record.id not in data.everyday]
    quotes = quote_records(own) if settings.quotes else []
    passages = compliant_passages(own, per_record=settings.compliant_passages, seed=seed)
    phrases = collection_records(settings.phrasebook, "phrasebook", data.taxonomy)
    groups = [[record] for record in records if record.id not in turning]
    turns = [
        *([one] for one in (*quotes, *passages)),
        *_turns(short, settings.everyday_turns, seed),
        *_turns(phrases, settings.phrase_turns, seed),
    ]
    for taking in turns:
        groups.append([*taking, *disguised_copies(taking, per_record=settings.disguised_copies, seed=seed)])
    found = [[TrainingText(record) for record in group] for group in groups]
    parts = PageParts.of(everyday, [*quotes, *phrases, *short])
    composed = compose_pages(
        parts,
        framed=settings.framed,
        pages=settings.pages,
        longest=settings.page_chunks,
        epochs=epochs,
        seed=seed,
    )
    return found + [[TrainingText(page, localized=True) for page in versions] for versions in composed]


def _turns(records: Sequence[Record], turns: int, seed: int) -> list[list[Record]]:
    """The records in a random order, in groups of `turns`."""
    shuffled = random.Random(seed).sample(records, len(records))
    return [shuffled[start : start + turns] for start in range(0, len(shuffled), turns)]

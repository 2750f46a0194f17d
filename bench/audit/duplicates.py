"""Copies of corpus texts with a few words changed and one label assignment: how many contradictions the queue holds."""

import numpy as np

from merchantguard.audit.ranking.duplicates import CONTRADICTION_SIMILARITY, contradictions
from merchantguard.audit.ranking.scores import Cells
from merchantguard.data.splitting.near_duplicates import near_duplicate_groups

from .cases import load_corpus

COPIES = 200


def duplicates_recall(*, seeds: int) -> None:
    """For each share of changed words, the share of planted contradictions that are found, and the false ones."""
    case = load_corpus()
    print("| words changed | copies | found | other contradictions |\n|---|---|---|---|")
    for share in (0.0, 0.02, 0.04, 0.06, 0.08, 0.1):
        found, others, total = 0, 0, 0
        for seed in range(seeds):
            draw = np.random.default_rng([seed, 13])
            sources = draw.choice(len(case.texts), COPIES, replace=False)
            columns = draw.integers(case.given.shape[1], size=COPIES)
            words = [word for text in case.texts[:200] for word in text.split()]
            copies = [_edited(case.texts[source], share, words, draw) for source in sources]
            labels = case.given[sources].copy()
            labels[np.arange(COPIES), columns] ^= True
            given = np.vstack([case.given, labels])
            cells = Cells(given, np.ones_like(given), np.full(given.shape, 0.5))
            groups = near_duplicate_groups([*case.texts, *copies], threshold=CONTRADICTION_SIMILARITY)
            queue = contradictions(cells, groups, np.full(given.shape, 0.5))
            pairs = {(frozenset((item.row, item.other)), item.policy) for item in queue}
            planted = {
                (frozenset((int(source), len(case.texts) + number)), int(column))
                for number, (source, column) in enumerate(zip(sources, columns, strict=True))
            }
            found += len(pairs & planted)
            others += len(pairs - planted)
            total += COPIES
        print(f"| {share:.0%} | {total} | {found / total:.3f} | {others} |", flush=True)


def _edited(text: str, share: float, words: list[str], draw: np.random.Generator) -> str:
    """The text with a share of its words replaced by others of the corpus, its lines joined."""
    own = text.split()
    count = round(share * len(own))
    for place in draw.choice(len(own), count, replace=False):
        own[place] = str(draw.choice(words))
    return " ".join(own)

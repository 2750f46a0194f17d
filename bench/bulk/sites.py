"""What reading the repeated blocks of a site once saves, and what it costs.

    python -m bulk.sites quickstart/bundle --pages data/corpus/part-0*.jsonl --splits quickstart/run/splits.json \\
        --single onion_and_ebay_sites/test.jsonl.gz

Generated sites are 6 to 20 pages of compliant merchants in random order, every second with a violating page whose labels it
takes; on the sites with chrome every page has the site's own menu, banner and footer (20 to 60 lines). `--single` texts have
no pages: cut at line ends into pieces of about 1,500 characters they stand in for sites of unknown structure.
Every site is read twice: whole, and repeated blocks once. Give pages that the model was not trained on. "Right": a site
without labels is clear, one with labels is not.
"""

import argparse
import itertools
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from guard import guarded
from run_splits import of_splits

from merchantguard.core.labels import LabelMatrix
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record
from merchantguard.serve import Assessment, Scorer, SiteText
from merchantguard.serve.preprocess import encode_texts
from merchantguard.train.evaluation.metrics import macro_average_precision

GATE = 0.005
"""The accuracy gate of the exporter: so many more wrong decisions are no failure."""
_PIECE = 1_500
_WORDS = [
    "home",
    "about",
    "us",
    "shop",
    "all",
    "products",
    "sale",
    "new",
    "in",
    "gifts",
    "blog",
    "stores",
    "contact",
    "my",
    "account",
    "wish",
    "list",
    "basket",
    "checkout",
    "search",
    "help",
    "delivery",
    "and",
    "returns",
    "terms",
    "privacy",
    "cookies",
    "imprint",
    "newsletter",
    "follow",
    "secure",
    "payment",
    "reviews",
    "careers",
    "press",
    "size",
    "guide",
]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A site and its labels."""

    text: SiteText
    labels: tuple[str, ...]


def site_of(pages: Sequence[str], labels: tuple[str, ...]) -> Labelled:
    """Pages joined as records join them."""
    ends = np.cumsum([0, *(len(page) + 1 for page in pages)]).tolist()
    ranges = tuple((start, end - 1) for start, end in itertools.pairwise(ends))
    return Labelled(SiteText("\n".join(pages), ranges), labels)


def generate(records: Sequence[Record], *, chrome: bool, limit: int, seed: int) -> list[Labelled]:
    """Up to `limit` sites with a violating page and as many without."""
    draw = random.Random(seed)
    violating = [record for record in records if record.labels]
    draw.shuffle(violating)
    compliant = [record.text for record in records if not record.labels and not record.unknown]
    sites = []
    for record in violating[:limit]:
        for added in (record, None):
            pages = [draw.choice(compliant) for _ in range(draw.randint(6, 20))]
            if added is not None:
                pages.insert(draw.randint(0, len(pages)), added.text)
            if chrome:
                above, below = (_lines(draw, draw.randint(10, 30)) for _ in range(2))
                pages = [f"{above}\n{page}\n{below}" for page in pages]
            sites.append(site_of(pages, added.labels if added else ()))
    return sites


def _lines(draw: random.Random, count: int) -> str:
    return "\n".join(" ".join(draw.choices(_WORDS, k=draw.randint(1, 6))).capitalize() for _ in range(count))


def pieces(text: str) -> list[str]:
    """The text cut at line ends into pieces of about 1,500 characters."""
    found, size = [[]], 0
    for line in text.splitlines():
        if size > _PIECE:
            found.append([])
            size = 0
        found[-1].append(line)
        size += len(line) + 1
    return ["\n".join(piece) for piece in found]


def tokens(scorer: Scorer, texts: Sequence[str | SiteText]) -> int:
    """Tokens that the model reads."""
    return sum(len(ids) for text in encode_texts(texts, scorer.tokenizer) for ids in text.ids)


def compare(title: str, scorer: Scorer, sites: Sequence[Labelled]) -> None:
    """Print a row of the table."""
    once = [site.text for site in sites]
    whole = [site.text.text for site in sites]
    read = [list(scorer.assess_many(texts)) for texts in (whole, once)]
    before, after = tokens(scorer, whole), tokens(scorer, once)
    changed = [pair for pair in zip(*read, strict=True) if pair[0].decision != pair[1].decision]
    precision = [_macro(scorer, sites, each) for each in read]
    cut = [sum(each.truncated for each in side) for side in read]
    right = [
        sum((each.decision != "clear") == bool(site.labels) for each, site in zip(side, sites, strict=True))
        for side in read
    ]
    verdict = "passes" if right[1] >= right[0] - GATE * len(sites) else "fails"
    print(
        f"| {title} | {len(sites)} | {before:,} | {after:,} | {1 - after / before:.1%} | "
        f"{len(changed)} ({len(changed) / len(sites):.2%}) | "
        f"{right[0] / len(sites):.1%} | {right[1] / len(sites):.1%}, {verdict} | "
        f"{precision[0]:.3f} | {precision[1]:.3f} | {cut[0]} | {cut[1]} |",
        flush=True,
    )


def _macro(scorer: Scorer, sites: Sequence[Labelled], found: Sequence[Assessment]) -> float:
    ids = [policy.id for policy in scorer.policies]
    values = np.array([[policy in site.labels for policy in ids] for site in sites], dtype=np.float32)
    scores = np.array([each.probabilities for each in found])
    return float(macro_average_precision(scores, LabelMatrix(values, np.ones(values.shape, dtype=bool))))


def main() -> int:
    """Build the sites, score them twice, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pages", type=Path, nargs="+", required=True, help="records to join into sites")
    parser.add_argument(
        "--splits", type=Path, help="take only the records of this split manifest's test split"
    )
    parser.add_argument("--single", type=Path, nargs="*", default=[], help="records without pages")
    parser.add_argument(
        "--limit", type=int, default=200, help="sites with a violating page (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    scorer = Scorer.load(args.bundle, threads=args.threads)
    records = of_splits(read_records(args.pages, None).records, args.splits)
    print(
        "| sites | number | tokens | read once | saved | decisions changed | right | right, once | AP | AP, once | truncated | once |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for title, chrome in (("generated, shared chrome", True), ("long sites, no chrome", False)):
        compare(title, scorer, generate(records, chrome=chrome, limit=args.limit, seed=args.seed))
    for path in args.single:
        single = read_records([path], None).records
        compare(path.parent.name, scorer, [site_of(pieces(each.text), each.labels) for each in single])
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))

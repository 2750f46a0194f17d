"""Whole sites: does reading all of a long text beat reading its beginning, and is the evidence on the violating page?

    python -m serving.long_sites quickstart/bundle --pages MERCHANTS/*.jsonl --sites data/corpus/part-0*.jsonl \\
        --splits quickstart/run/splits.json

A long site is 12 to 40 pages of compliant merchants, joined in random order; every second site has a violating page at a
random place, whose labels it takes. The corpus's own `site` records of the test split are scored too. The same bundle
scores each text whole and cut after its first 512 tokens. Give pages that the model was not trained on.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from guard import guarded
from numpy.typing import NDArray
from run_splits import of_splits
from tokenizers import Tokenizer

from merchantguard.core.labels import LabelMatrix
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record
from merchantguard.data.taxonomy import load_taxonomy
from merchantguard.serve import Assessment, EvidenceOptions, Scorer
from merchantguard.serve.bundle import TOKENIZER
from merchantguard.train.evaluation.bootstrap import cluster_interval
from merchantguard.train.evaluation.metrics import macro_average_precision

FIRST_TOKENS = 512
LONG_TOKENS = 2_000


@dataclass(frozen=True, slots=True)
class Site:
    """A long text with its labels; `page` is the range of the violating page, if one was put in."""

    text: str
    labels: tuple[str, ...]
    page: tuple[int, int] | None


def join_pages(records: Sequence[Record], *, least: int, most: int, limit: int, seed: int) -> list[Site]:
    """One site with a violating record as a page for each of up to `limit` of them, and as many without."""
    draw = random.Random(seed)
    violating_records = [record for record in records if record.labels]
    draw.shuffle(violating_records)
    compliant = [record.text for record in records if not record.labels and not record.unknown]
    sites = []
    for record in violating_records[:limit]:
        for violating in (record, None):
            pages = [draw.choice(compliant) for _ in range(draw.randint(least, most))]
            if violating is None:
                sites.append(Site("\n\n".join(pages), (), None))
                continue
            place = draw.randint(0, len(pages))
            before = "\n\n".join(pages[:place]) + ("\n\n" if place else "")
            text = "\n\n".join([*pages[:place], violating.text, *pages[place:]])
            sites.append(Site(text, violating.labels, (len(before), len(before) + len(violating.text))))
    return sites


def beginnings(scorer: Scorer, texts: Sequence[str]) -> list[str]:
    """Each text up to the end of its token number `FIRST_TOKENS`."""
    tokenizer = plain_tokenizer(scorer)
    tokenizer.enable_truncation(FIRST_TOKENS)
    return [
        text[: max((end for _, end in encoding.offsets), default=0)]
        for text, encoding in zip(texts, tokenizer.encode_batch(list(texts)), strict=True)
    ]


def token_counts(scorer: Scorer, texts: Sequence[str]) -> NDArray[np.int64]:
    """Tokens of each text."""
    encodings = plain_tokenizer(scorer).encode_batch(list(texts))
    return np.array([len(encoding.ids) for encoding in encodings])


def plain_tokenizer(scorer: Scorer) -> Tokenizer:
    """The bundle's tokenizer, which neither pads nor truncates."""
    tokenizer = Tokenizer.from_file(str(scorer.bundle.path / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def report(
    title: str,
    sites: Sequence[Site],
    whole: Sequence[Assessment],
    cut: Sequence[Assessment],
    ids: Sequence[str],
) -> None:
    """Print macro average precision of both, and their difference with its interval."""
    values = np.array([[policy in site.labels for policy in ids] for site in sites], dtype=np.float32)
    labels = LabelMatrix(values, np.ones(values.shape))
    scores = [np.array([assessment.probabilities for assessment in each]) for each in (whole, cut)]

    def macro(rows: NDArray[np.int64], number: int) -> float:
        return macro_average_precision(scores[number][rows], labels[rows])

    everything = np.arange(len(sites))
    clusters = [str(row) for row in everything]
    low, high = cluster_interval(lambda rows: macro(rows, 0) - macro(rows, 1), clusters, samples=500)
    whole_text, first_tokens = macro(everything, 0), macro(everything, 1)
    print(
        f"{title}: {len(sites)} texts, whole {whole_text:.3f}, first {FIRST_TOKENS} tokens "
        f"{first_tokens:.3f}, difference {whole_text - first_tokens:+.3f} [{low:.3f}, {high:.3f}]"
    )


def report_evidence(sites: Sequence[Site], assessments: Sequence[Assessment]) -> None:
    """Print how often the first span of a found violation, and any of its spans, lies in the violating page."""
    shown = [
        [site.page[0] < span.end and span.start < site.page[1] for span in finding.spans]
        for site, assessment in zip(sites, assessments, strict=True)
        for finding in assessment.findings
        if site.page and finding.policy in site.labels and finding.spans
    ]
    if shown:
        first, some = np.mean([each[0] for each in shown]), np.mean([any(each) for each in shown])
        print(
            f"of {len(shown)} found violations the first span lies in the violating page in {first:.1%}, ",
            end="",
        )
        print(f"one of up to {EvidenceOptions().spans} in {some:.1%}")


def main() -> int:
    """Build the sets, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pages", type=Path, nargs="+", required=True, help="records to join into sites")
    parser.add_argument("--sites", type=Path, nargs="+", help="records whose form is site")
    parser.add_argument(
        "--splits", type=Path, help="a run's splits.json: only sites of its test split are scored"
    )
    parser.add_argument("--least", type=int, default=12, help="fewest compliant pages of a site (12)")
    parser.add_argument("--most", type=int, default=40, help="most compliant pages of a site (40)")
    parser.add_argument("--limit", type=int, default=60, help="most sites with a violating page (60)")
    parser.add_argument(
        "--evidence",
        type=int,
        default=30,
        help="sites whose evidence is checked, which takes most of the time (30)",
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    taxonomy = load_taxonomy()
    scorer = Scorer.load(args.bundle, evidence=EvidenceOptions(spans=0))
    ids = [policy.id for policy in scorer.policies]
    sites = join_pages(
        read_records(args.pages, taxonomy).records,
        least=args.least,
        most=args.most,
        limit=args.limit,
        seed=args.seed,
    )
    whole = list(scorer.assess_many(site.text for site in sites))
    cut = list(scorer.assess_many(beginnings(scorer, [site.text for site in sites])))
    long = np.flatnonzero(token_counts(scorer, [site.text for site in sites]) > LONG_TOKENS).tolist()
    report("joined sites", sites, whole, cut, ids)
    chosen = ([parts[row] for row in long] for parts in (sites, whole, cut))
    report(f"joined sites over {LONG_TOKENS:,} tokens", *chosen, ids)
    shown = [site for site in sites if site.page][: args.evidence]
    with_evidence = Scorer.load(args.bundle)
    report_evidence(shown, list(with_evidence.assess_many(site.text for site in shown)))
    if args.sites:
        records = [r for r in read_records(args.sites, taxonomy).records if r.extra.get("form") == "site"]
        records = of_splits(records, args.splits)
        own = [Site(record.text, record.labels, None) for record in records]
        texts = [site.text for site in own]
        parts = (list(scorer.assess_many(each)) for each in (texts, beginnings(scorer, texts)))
        report("the corpus's own sites", own, *parts, ids)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))

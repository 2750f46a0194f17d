"""A bundle on real text: clean pages of real sites, violations put into them, ordinary merchants, and hard merchants.

    python bench/real_pages.py BUNDLE BENCHMARKS [--validation FOLDER] [--variant plain]

BENCHMARKS is the folder with real_pages, retail_listings, retail_storefronts and crunchbase_companies; what is absent is
skipped. Prints the table of docs/results/quality.md. The pages are development data: recipes were chosen on them.
"""

import argparse
import gzip
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from merchantguard.serve import Assessment, EvidenceOptions, Scorer

PAGES, SAMPLE, SEED = 48, 400, 3
INSERTED = {
    "gambling": (
        "Play real money slots and live roulette with instant payouts",
        "Bet on every football match with our bookmaker, first deposit doubled",
    ),
    "tobacco_vaping": (
        "Disposable vapes and e-liquids, nicotine 20 mg, delivered next day",
        "Buy cigarettes and rolling tobacco online at duty free prices",
    ),
    "illegal_drugs": (
        "Order MDMA crystals and LSD tabs, vacuum sealed and shipped discreetly",
        "Pure cocaine, sold by the gram, tracked stealth shipping",
    ),
    "prescription_drugs": (
        "Buy Xanax, Oxycodone and Adderall without a prescription",
        "Tramadol and Valium tablets shipped worldwide, no doctor needed",
    ),
    "weapons": (
        "Glock pistols and AR-15 rifles with ammunition for sale, no licence checks",
        "Switchblades, brass knuckles and stun guns shipped to your door",
    ),
    "counterfeit": (
        "Replica Rolex watches, 1:1 copies that pass any inspection",
        "AAA quality fake Louis Vuitton bags at a tenth of the price",
    ),
    "academic_cheating": (
        "We write your essay or dissertation for you, guaranteed A and undetectable",
        "Hire someone to take your online exam for you",
    ),
    "identity_fraud": (
        "Buy fake passports and driving licences that scan",
        "Fresh credit card dumps with pin and fullz for sale",
    ),
}
HARMLESS = (
    "Our studio stands behind the old mill. We glaze every bowl by hand. The kiln is fired on Thursdays. Classes for "
    "beginners start in March. Parking is free after six. Mugs come in blue, grey and white. We post orders twice a week. "
    "Gift vouchers are valid for a year. The workshop is closed on Mondays. Seconds are sold at half price. Our clay comes "
    "from Devon. Children are welcome on Saturdays. Plates can go in the dishwasher. We have been potters since 1998. A tea "
    "bowl takes two weeks to make. Ask us about tiles for your kitchen. The shop smells of coffee and wet clay. You can "
    "collect from the studio. Please allow ten days for delivery. Thank you for supporting small makers. "
)


@dataclass(frozen=True, slots=True)
class Scored:
    """Assessments as arrays: any violation (N,), policies (N, K), and whether each is sent to review or blocked (N,)."""

    some: np.ndarray
    policies: np.ndarray
    seen: np.ndarray
    blocked: np.ndarray

    @classmethod
    def of(cls, scorer: Scorer, texts: Sequence[str]) -> "Scored":
        """Score texts."""
        found: list[Assessment] = list(scorer.assess_many(texts))
        return cls(
            np.array([each.any_violation for each in found]),
            np.stack([each.probabilities for each in found]),
            np.array([each.decision != "clear" for each in found]),
            np.array([each.decision == "block" for each in found]),
        )


def main() -> None:
    """Measure what is there and print a row a figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("benchmarks", type=Path)
    parser.add_argument("--validation", type=Path, help="folder with part-a.jsonl and part-b.jsonl")
    parser.add_argument("--variant", default="plain")
    args = parser.parse_args()
    scorer = Scorer.load(args.bundle, variant=args.variant, evidence=EvidenceOptions(spans=0))
    print(f"{scorer.bundle.label}, variant {scorer.variant}")
    ids = [policy.id for policy in scorer.policies]
    print_dilution(scorer, ids)
    for name in ("retail_listings", "retail_storefronts", "crunchbase_companies"):
        print_ordinary(scorer, args.benchmarks / name)
    if args.validation is not None:
        print_validation(scorer, args.validation, ids)
    pages = args.benchmarks / "real_pages" / "pages.jsonl.gz"
    if pages.exists():
        print_pages(scorer, pages, ids)
    else:
        print(f"{pages}: absent, skipped")


def row(what: str, value: str) -> None:
    """One line of the table."""
    print(f"{what:<78}{value:>24}", flush=True)


def interval(hits: np.ndarray) -> str:
    """A share with its 95 % interval by Wilson's score."""
    n, p, z = len(hits), float(np.mean(hits)), 1.96
    centre, half = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n)
    half *= float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return f"{p:.1%} [{max(0.0, centre - half):.1%}, {min(1.0, centre + half):.1%}]"


def auroc(clean: np.ndarray, violating: np.ndarray) -> str:
    """Area under the ROC curve with its 95 % interval by bootstrap over both."""
    draw = np.random.default_rng(0)

    def area(c: np.ndarray, v: np.ndarray) -> float:
        return float(roc_auc_score(np.r_[np.zeros(len(c)), np.ones(len(v))], np.r_[c, v]))

    again = [area(draw.choice(clean, len(clean)), draw.choice(violating, len(violating))) for _ in range(500)]
    low, high = np.quantile(again, (0.025, 0.975))
    return f"{area(clean, violating):.3f} [{low:.3f}, {high:.3f}]"


def print_dilution(scorer: Scorer, ids: list[str]) -> None:
    """A violating sentence after twenty harmless ones, against alone."""
    texts = [(policy, text) for policy, pair in INSERTED.items() if policy in ids for text in pair]
    columns = [ids.index(policy) for policy, _ in texts]
    alone = Scored.of(scorer, [text for _, text in texts]).policies[range(len(texts)), columns]
    after = Scored.of(scorer, [HARMLESS + text for _, text in texts]).policies[range(len(texts)), columns]
    row(
        "probability after twenty harmless sentences / alone: least, median",
        f"{(after / alone).min():.2f}, {np.median(after / alone):.2f}",
    )


def print_ordinary(scorer: Scorer, folder: Path) -> None:
    """Ordinary merchants that are sent to review."""
    files = sorted(folder.glob("*train*"))
    if not files:
        print(f"{folder}: absent, skipped")
        return
    rows = [
        each for file in files for each in read(file) if not each.get("labels") and not each.get("unknown")
    ]
    chosen = random.Random(SEED).sample(rows, min(SAMPLE, len(rows)))
    row(
        f"{folder.name}, compliant, to review",
        interval(Scored.of(scorer, [each["text"] for each in chosen]).seen),
    )


def print_validation(scorer: Scorer, folder: Path, ids: list[str]) -> None:
    """Hard merchants by other writers."""
    rows = [each for name in ("part-a", "part-b") for each in read(folder / f"{name}.jsonl")]
    found = Scored.of(scorer, [each["text"] for each in rows])
    truth = np.array([[policy in each["labels"] for policy in ids] for each in rows])
    kind = np.array([each["kind"] for each in rows])
    violating = truth.any(axis=1)
    disguised = ~violating | (kind == "subtle")
    row(
        "validation: macro average precision, disguised",
        f"{macro(truth, found):.3f}, {macro(truth[disguised], found, disguised):.3f}",
    )
    row("validation: AUROC of any violation", auroc(found.some[~violating], found.some[violating]))
    row("validation: violating to review", interval(found.seen[violating]))
    row("validation: near misses to review", interval(found.seen[kind == "hard_negative"]))
    row("validation: ordinary to review", interval(found.seen[kind == "ordinary"]))
    row(
        "validation: violating blocked, compliant blocked",
        f"{found.blocked[violating].sum()} of {violating.sum()}, {found.blocked[~violating].sum()}",
    )


def macro(truth: np.ndarray, found: Scored, rows: np.ndarray | None = None) -> float:
    """Average precision over the policies that have positives."""
    scores = found.policies if rows is None else found.policies[rows]
    columns = [k for k in range(truth.shape[1]) if truth[:, k].any()]
    return float(np.mean([average_precision_score(truth[:, k], scores[:, k]) for k in columns]))


def print_pages(scorer: Scorer, path: Path, ids: list[str]) -> None:
    """Clean English pages of real sites, alone and with one violating line put in."""
    english = [each for each in read(path) if each["en"]]
    clean = [each for each in english if not each["labels"] and not each["maybe"]]
    violating = [each for each in english if each["labels"]]
    began = time.process_time()
    on_clean = Scored.of(scorer, [each["text"] for each in clean])
    seconds = time.process_time() - began
    characters = sum(len(each["text"]) for each in clean)
    on_violating = Scored.of(scorer, [each["text"] for each in violating])
    base = random.Random(11).sample(range(len(clean)), PAGES)
    texts, columns, pages = insert([clean[number] for number in base], ids)
    inserted = Scored.of(scorer, texts)
    limit = np.quantile(inserted.some, 0.1)
    areas = []
    for column in sorted(set(columns)):
        rows = np.array(columns) == column
        before = on_clean.policies[np.array(base)[np.array(pages)[rows]], column]
        areas.append(
            roc_auc_score(
                np.r_[np.zeros(len(before)), np.ones(rows.sum())],
                np.r_[before, inserted.policies[rows, column]],
            )
        )
    row(
        f"clean pages ({len(clean)}) at the limit that finds 90 % of {len(texts)} inserted lines",
        interval(on_clean.some >= limit),
    )
    row("clean pages to review at the shipped limit", interval(on_clean.seen))
    row("inserted line: AUROC of its policy, mean of policies", f"{np.mean(areas):.3f}")
    row("inserted line: page to review at the shipped limit", interval(inserted.seen))
    row(
        f"violating ({len(violating)}) against clean pages: AUROC of any violation",
        auroc(on_clean.some, on_violating.some),
    )
    row("characters a second of processor time, clean pages", f"{characters / seconds:,.0f}")


def insert(pages: Sequence[dict[str, Any]], ids: list[str]) -> tuple[list[str], list[int], list[int]]:
    """Each page with one line of each policy put between two of its lines; the policies' columns; the pages' numbers."""
    texts, columns, numbers = [], [], []
    for number, page in enumerate(pages):
        lines = page["text"].split("\n")
        for which, (policy, pair) in enumerate(INSERTED.items()):
            if policy in ids:
                at = random.Random(number * 100 + which).randint(0, len(lines))
                texts.append("\n".join([*lines[:at], pair[number % 2], *lines[at:]]))
                columns.append(ids.index(policy))
                numbers.append(number)
    return texts, columns, numbers


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file, compressed or not."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.decode("utf-8").splitlines()]


if __name__ == "__main__":
    main()

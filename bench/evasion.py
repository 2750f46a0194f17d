"""Recall lost when merchants disguise what they sell: our model, the same without its defences, and TF-IDF.

    python bench/evasion.py quickstart/bundle --undefended OTHER/bundle --splits quickstart/run/splits.json \\
        --records data/corpus/part-0*.jsonl --tests MERCHANTS/*.jsonl

Only violating pages are attacked: others have no reason to. Recall is the share of violating pages whose probability of any
violation passes the limit that, with nothing attacked, lets 10 % of the compliant ones of the same set pass; it is
measured for every model at its own limit. Beside it stands the macro average precision, violating pages attacked.
The model to compare with is trained with data.disguised_copies=0 and reads texts uncleaned.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import evasion_attacks as attacks
import numpy as np
from baselines import LinearBaseline, NgramFeatures
from guard import guarded
from numpy.typing import NDArray
from scipy.special import expit

from merchantguard.core.decisions import any_violation
from merchantguard.core.files import read_json, write_json
from merchantguard.data.cleaning.html import html_to_text
from merchantguard.data.cleaning.text import CleanText
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record, label_matrix
from merchantguard.data.splitting.splits import SplitManifest
from merchantguard.data.taxonomy import Taxonomy, load_taxonomy
from merchantguard.serve import EvidenceOptions, Scorer
from merchantguard.serve import preprocess as reading
from merchantguard.train.evaluation.bootstrap import cluster_interval
from merchantguard.train.evaluation.metrics import macro_average_precision

FALSE_ALARMS = 0.1
PAGE = "markup"
EUPHEMISMS = "euphemisms"
Probabilities = NDArray[np.float32]
Model = Callable[[Sequence[str]], Probabilities]
"""Texts in, probabilities (N, K) out."""
Figure = Callable[[Probabilities, NDArray[np.int64]], float]
"""A figure of the probabilities of some rows."""


def uncleaned(raw: str) -> CleanText:
    """The text as it is, in place of cleaning."""
    starts = np.arange(len(raw), dtype=np.int64)
    return CleanText(raw, starts, starts + 1)


@contextmanager
def without_cleaning() -> Iterator[None]:
    """Within it, scorers read texts as they are."""
    with mock.patch.object(reading, "clean", uncleaned):
        yield


def bundle_model(path: Path, *, cleaned: bool) -> Model:
    """A bundle behind the scorer, with or without cleaning."""
    scorer = Scorer.load(path, evidence=EvidenceOptions(spans=0))

    def score(texts: Sequence[str]) -> Probabilities:
        if cleaned:
            return np.array([each.probabilities for each in scorer.assess_many(texts)])
        with without_cleaning():
            return np.array([each.probabilities for each in scorer.assess_many(texts)])

    return score


def tfidf_model(
    train: Sequence[Record], held: Sequence[Record], taxonomy: Taxonomy, *, cleaned: bool
) -> Model:
    """TF-IDF + logistic regression, reading texts as they are or cleaned."""
    model = LinearBaseline(NgramFeatures(), cleaned=cleaned)
    model.fit(train, held, taxonomy)

    def score(texts: Sequence[str]) -> Probabilities:
        return expit(model.logits_of(texts))

    return score


def attacked_sets(records: Sequence[Record], *, seed: int) -> dict[str, list[str]]:
    """Attack -> the texts of all records, those that violate attacked."""
    terms = attacks.load_euphemisms()

    def texts(change: Callable[[Record, list[str], str], str]) -> list[str]:
        return [
            change(
                record,
                [quote for quotes in record.evidence.values() for quote in quotes],
                f"{seed} {record.id}",
            )
            if record.labels
            else record.text
            for record in records
        ]

    sets = {
        name: texts(
            lambda record, quotes, key, attack=attack: attacks.attack_text(
                record.text, quotes, attack, seed=key
            )
        )  # type: ignore[misc]
        for name, attack in attacks.CHARACTER_ATTACKS.items()
    }
    sets[PAGE] = texts(
        lambda record, quotes, key: html_to_text(attacks.attack_page(record.text, quotes, seed=key))
    )
    sets[EUPHEMISMS] = texts(lambda record, _, key: attacks.with_euphemisms(record.text, terms, seed=key))
    return sets


class Measure:
    """Recall and average precision of one set of records; `clean` are a model's probabilities with nothing attacked."""

    def __init__(
        self, records: Sequence[Record], taxonomy: Taxonomy, clean: Probabilities, *, samples: int
    ) -> None:
        self.labels = label_matrix(records, taxonomy)
        self.clusters = [record.domain or record.id for record in records]
        self.violating = self.labels.violating
        self.samples = samples
        self.clean = clean
        self.limit = alarm_limit(clean[~self.violating])

    def recall(self, probabilities: Probabilities, rows: NDArray[np.int64]) -> float:
        """Share of violating rows above the limit."""
        rows = rows[self.violating[rows]]
        return float((any_violation(probabilities[rows]) > self.limit).mean())

    def ranking(self, probabilities: Probabilities, rows: NDArray[np.int64]) -> float:
        """Macro average precision."""
        return macro_average_precision(probabilities[rows], self.labels[rows])

    def lost(self, attacked: Probabilities) -> dict[str, dict[str, float]]:
        """By how much an attack lowers both, paired: point, low and high of an interval over domains."""
        lost = {}
        for name, figure in (("recall", self.recall), ("average_precision", self.ranking)):

            def loss(rows: NDArray[np.int64], figure: Figure = figure) -> float:
                return figure(self.clean, rows) - figure(attacked, rows)

            low, high = cluster_interval(loss, self.clusters, samples=self.samples)
            lost[name] = {"point": loss(np.arange(len(self.clusters))), "low": low, "high": high}
        return lost


def alarm_limit(compliant: Probabilities) -> float:
    """The probability of any violation that `FALSE_ALARMS` of the compliant rows (N, K) pass."""
    return float(np.quantile(any_violation(compliant), 1 - FALSE_ALARMS))


def measure(
    models: Mapping[str, Model], records: Sequence[Record], taxonomy: Taxonomy, *, seed: int, samples: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Attack -> model -> figures, for JSON."""
    sets = attacked_sets(records, seed=seed)
    everything = np.arange(len(records))
    found: dict[str, dict[str, dict[str, float]]] = {"none": {}} | {name: {} for name in sets}
    for name, model in models.items():
        clean = model([record.text for record in records])
        judge = Measure(records, taxonomy, clean, samples=samples)
        found["none"][name] = {
            "recall": judge.recall(clean, everything),
            "average_precision": judge.ranking(clean, everything),
        }
        for attack, texts in sets.items():
            print(f"{name}: {attack}", file=sys.stderr, flush=True)
            lost = judge.lost(model(texts))
            found[attack][name] = {
                f"{figure}_{end}": value
                for figure, interval in lost.items()
                for end, value in interval.items()
            }
    return found


def markdown(found: Mapping[str, Mapping[str, Mapping[str, float]]], models: Sequence[str]) -> str:
    """The table: points of recall lost, and of macro average precision."""
    lines = [f"| attack | {' | '.join(models)} |", f"|---|{'---|' * len(models)}"]
    none = [f"{found['none'][m]['recall']:.1%} / {found['none'][m]['average_precision']:.3f}" for m in models]
    lines.append(f"| none: recall / macro AP | {' | '.join(none)} |")
    for attack, by_model in found.items():
        if attack == "none":
            continue
        cells = [
            f"{100 * f['recall_point']:.1f} [{100 * f['recall_low']:.1f}, {100 * f['recall_high']:.1f}] / "
            f"{100 * f['average_precision_point']:.1f}"
            for f in (by_model[m] for m in models)
        ]
        lines.append(f"| {attack}: points lost | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Build the models, attack, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--undefended", type=Path, help="bundle trained without disguised copies")
    parser.add_argument(
        "--splits",
        type=Path,
        required=True,
        help="splits.json of the bundle's run: what TF-IDF is trained on",
    )
    parser.add_argument(
        "--records", type=Path, nargs="+", required=True, help="the records that the splits name"
    )
    parser.add_argument("--tests", type=Path, nargs="+", help="records to attack (default: the test split)")
    parser.add_argument("--bootstrap", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    taxonomy = load_taxonomy()
    by_id = {record.id: record for record in read_records(args.records, taxonomy).records}
    ids = SplitManifest.from_json(read_json(args.splits)).ids
    parts = {name: [by_id[key] for key in keys] for name, keys in ids.items()}
    records = read_records(args.tests, taxonomy).records if args.tests else parts["test"]
    models = {"ours": bundle_model(args.bundle, cleaned=True)}
    if args.undefended:
        models["without cleaning and copies"] = bundle_model(args.undefended, cleaned=False)
    for cleaned in (False, True):
        name = "TF-IDF, cleaned" if cleaned else "TF-IDF"
        models[name] = tfidf_model(parts["train"], parts["validation"], taxonomy, cleaned=cleaned)
    found = measure(models, records, taxonomy, seed=args.seed, samples=args.bootstrap)
    if args.out:
        write_json(args.out, found)
    print(markdown(found, list(models)))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))

"""Policies without training records: how well their description alone works, and what a few examples add.

    python bench/new_policies.py --validation MERCHANTS --shots 0,4,8,16

Some policies are held out: no record that violates one is trained on. The trained encoder then gets each of them by its
description ("zero-shot": the score is the text's projection on the description's encoding), or by a few violating records
and compliant ones (a logistic regression on the encoder's features and that projection). It is compared with the encoder
before training, and with TF-IDF on the same examples. Average precision of each policy over all test records, mean over
policies and draws of examples.
"""

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baselines import NgramFeatures
from guard import guarded
from numpy.typing import NDArray
from package_model import train_ours
from quality_data import load_corpus_data
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from merchantguard.core.files import write_json
from merchantguard.data.cleaning.text import clean
from merchantguard.data.records.record import Record
from merchantguard.data.taxonomy import Policy, Taxonomy, load_taxonomy
from merchantguard.serve.engine.batching import plan_batches
from merchantguard.train.batching.window_table import window_tokenizer
from merchantguard.train.model.policy_model import PolicyModel, build_model
from merchantguard.train.run import LoadedRun

DRAWS = 5
BATCH_TOKENS = 4096
STRENGTH = 1.0
Floats = NDArray[np.float64]


def reduced_taxonomy(taxonomy: Taxonomy, held_out: Sequence[str]) -> Taxonomy:
    """The taxonomy without the held-out policies."""
    kept = tuple(policy for policy in taxonomy.policies if policy.id not in held_out)
    return Taxonomy(version=taxonomy.version, policies=kept)


class Encoded:
    """Features of the windows of some texts, (W, hidden), each of length 1, and the text of each window."""

    def __init__(self, model: PolicyModel, run: LoadedRun, texts: Sequence[str]) -> None:
        tokenizer = window_tokenizer(run.tokenizer_path, run.settings.model)
        encoded = tokenizer.encode_batch([clean(text).text for text in texts])
        windows = [window.ids for each in encoded for window in each.windows]
        features = np.zeros((len(windows), model.head.in_features))
        for rows in plan_batches([len(window) for window in windows], batch_tokens=BATCH_TOKENS):
            features[rows] = self._features(model, [windows[row] for row in rows])
        self.features = features
        self.owners = np.repeat(np.arange(len(texts)), [len(each.windows) for each in encoded])
        self.count = len(texts)

    @staticmethod
    @torch.no_grad()
    def _features(model: PolicyModel, windows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        longest = max(map(len, windows))
        ids = torch.tensor([[*window, *[0] * (longest - len(window))] for window in windows])
        mask = torch.tensor([[1] * len(window) + [0] * (longest - len(window)) for window in windows])
        found: NDArray[np.float32] = torch.nn.functional.normalize(model.features(ids, mask), dim=1).numpy()
        return found

    def highest(self, scores: Floats) -> Floats:
        """The highest score of each text, from scores (W,)."""
        best = np.full(self.count, -np.inf)
        np.maximum.at(best, self.owners, scores)
        return best


def described(model: PolicyModel, run: LoadedRun, policies: Sequence[Policy]) -> Floats:
    """Unit vectors (K, hidden) of the policies' descriptions, centred over all of them."""
    rows = Encoded(model, run, [f"{policy.title}: {policy.covers}" for policy in policies]).features
    centred = rows - rows.mean(axis=0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def few_shot(train: Any, labels: NDArray[np.bool_], test: Any) -> Floats:
    """Scores of the test rows by a logistic regression with balanced classes."""
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000, random_state=0)
    return np.asarray(model.fit(train, labels).decision_function(test), dtype=np.float64)


class ByEncoder:
    """Scores of new policies by an encoder, trained or not."""

    def __init__(
        self,
        model: PolicyModel,
        run: LoadedRun,
        taxonomy: Taxonomy,
        pool: Sequence[Record],
        test: Sequence[Record],
    ) -> None:
        self.rows = dict(zip(taxonomy.ids, described(model, run, taxonomy.policies), strict=True))
        self.pool = Encoded(model, run, [record.text for record in pool])
        self.test = Encoded(model, run, [record.text for record in test])

    def scores(self, policy: str, chosen: Sequence[int], labels: NDArray[np.bool_]) -> Floats:
        """Scores of the test records; `chosen` are the examples in the pool, none for zero-shot."""
        projected = self.test.features @ self.rows[policy]
        if not len(chosen):
            return self.test.highest(projected)
        rows = np.flatnonzero(np.isin(self.pool.owners, chosen))
        truth = dict(zip(chosen, labels, strict=True))

        def wide(encoded: Encoded, at: NDArray[np.int64]) -> Floats:
            features = encoded.features[at]
            return np.column_stack([5 * features, 20 * (features @ self.rows[policy])])

        wanted = np.array([truth[owner] for owner in self.pool.owners[rows]])
        everything = np.arange(len(self.test.owners))
        return self.test.highest(few_shot(wide(self.pool, rows), wanted, wide(self.test, everything)))


class ByNgrams:
    """Scores of new policies by TF-IDF; the description is its only example for zero-shot."""

    def __init__(self, taxonomy: Taxonomy, pool: Sequence[Record], test: Sequence[Record]) -> None:
        features = NgramFeatures()
        self.pool = features.fit_transform([clean(record.text).text for record in pool])
        self.test = features.transform([clean(record.text).text for record in test])
        texts = [f"{policy.title}: {policy.covers}" for policy in taxonomy.policies]
        self.rows = dict(zip(taxonomy.ids, features.transform(texts), strict=True))

    def scores(self, policy: str, chosen: Sequence[int], labels: NDArray[np.bool_]) -> Floats:
        """Scores of the test records; `chosen` are the examples in the pool, none for zero-shot."""
        if not len(chosen):
            return np.asarray((self.test @ self.rows[policy].T).todense()).ravel()
        return few_shot(self.pool[list(chosen)], labels, self.test)


def measure(
    scorer: Callable[[str, Sequence[int], NDArray[np.bool_]], Floats],
    held_out: Sequence[str],
    pool: Sequence[Record],
    test: Sequence[Record],
    *,
    shots: int,
    negatives: int,
    seed: int,
) -> list[float]:
    """Average precision of each held-out policy, mean over draws of examples."""
    found = []
    for policy in held_out:
        truth = np.array([policy in record.labels for record in test])
        violating = [row for row, record in enumerate(pool) if policy in record.labels]
        others = [row for row, record in enumerate(pool) if policy not in record.labels]
        each = []
        for draw in range(DRAWS if shots else 1):
            chance = random.Random(f"{seed} {policy} {draw}")
            few = chance.sample(violating, min(shots, len(violating)))
            rows = [*few, *chance.sample(others, min(negatives, len(others)))] if shots else []
            labels = np.array([row in few for row in rows], dtype=bool)
            each.append(average_precision_score(truth, scorer(policy, rows, labels)))
        found.append(float(np.mean(each)))
    return found


def main() -> int:
    """Train without the held-out policies, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--validation", type=Path, required=True, help="folder of JSONL files to test on")
    parser.add_argument("--held-out", default="every fourth", help="policies, with commas (every fourth)")
    parser.add_argument("--shots", default="0,4,8,16")
    parser.add_argument("--negatives", type=int, default=300, help="other records beside the examples (300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.KEY=VALUE")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    taxonomy = load_taxonomy()
    held_out = list(taxonomy.ids[1::4]) if args.held_out == "every fourth" else args.held_out.split(",")
    data = load_corpus_data(taxonomy, merchants=args.validation)
    test = data.tests[args.validation.name].records
    reduced = reduced_taxonomy(taxonomy, held_out)
    # The phrasebook has texts of every policy, the held-out ones included.
    model = train_ours(seed=args.seed, overrides=["data.phrasebook=[]", *args.set])
    seen = [[r for r in part if not set(r.labels) & set(held_out)] for part in (data.train, data.validation)]
    model.fit(*seen, reduced)
    run = model.run
    base = build_model(run.settings.model, run.settings.lora, n_policies=len(reduced)).eval()
    models = {
        "ours, trained without them": ByEncoder(run.model, run, taxonomy, data.train, test).scores,
        "base encoder": ByEncoder(base, run, taxonomy, data.train, test).scores,
        "TF-IDF": ByNgrams(taxonomy, data.train, test).scores,
    }
    print(f"held out: {', '.join(held_out)}; {len(test)} test records")
    print("| examples | " + " | ".join(models) + " |\n|---|" + "---|" * len(models))
    figures: dict[str, dict[str, list[float]]] = {}
    for shots in map(int, args.shots.split(",")):
        found = {
            name: measure(
                scorer, held_out, data.train, test, shots=shots, negatives=args.negatives, seed=args.seed
            )
            for name, scorer in models.items()
        }
        figures[str(shots)] = found
        print(f"| {shots} | " + " | ".join(f"{np.mean(each):.3f}" for each in found.values()) + " |")
    if args.out:
        write_json(args.out, {"held_out": held_out, "average_precision": figures})
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))

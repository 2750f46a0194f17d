"""The stage after the encoder's training: fits the n-gram branch on the same texts, and the mixture on other records.

The branch is one logistic regression per output, over word pieces, their pairs and their spelling. The character n-grams
of a word piece are a fixed property of it, so a weight on them is a weight on the piece: pieces that are spelt alike
share what they learn ("vape", "vaping", "vaporizer"), and pieces that do not occur in training get a weight too. Folded
into the table, this costs nothing in scoring. On out-of-distribution merchants it brings the branch from 0.725 to 0.797,
the level of TF-IDF with character n-grams (`docs/results/experiments.md`).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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

MOST_TEXTS = 200_000
"""The branch is fitted in memory: on the first so many texts."""
_CHARACTERS = (3, 5)
# Inverse regularisation of the logistic regressions.
_STRENGTH = 30.0


_BLOCKS = ((32, 8), (16, 1))
"""Tokens of the training blocks, special ones included, and how many of them two neighbours share: about the lengths that
the branch scores."""


def block_tokenizers(path: Path, *, max_windows: int) -> list[WindowTokenizer]:
    """Tokenizers that cut texts into blocks about as long as those that the branch scores."""
    return [
        WindowTokenizer.from_file(path, window_tokens=tokens, stride_tokens=shared, max_windows=max_windows)
        for tokens, shared in _BLOCKS
    ]


def add_ngrams_and_mixture(
    model: PolicyModel,
    settings: ModelSettings,
    blocks: tuple[Sequence[Sequence[int]], LabelMatrix],
    validation: LabelledWindows,
    encoder_scores: np.ndarray,
    *,
    tokenizer: WindowTokenizer,
) -> None:
    """Add the n-gram branch and the mixture to a trained `model`.

    :param blocks: short windows of the training texts with their labels.
    :param encoder_scores: the model's record scores (N, K) on the validation split before this stage.
    """
    # The tokens of an empty text are those that every window has besides its text.
    special = sorted({tokenizer.pad_id, *tokenizer.encode("").windows[0].ids})
    branch = NgramBranch(model.vocabulary, settings.ngram_buckets, blocks[1].policies, special)
    spellings = piece_spellings(tokenizer.pieces)[: model.vocabulary]
    fit_ngrams(branch, *blocks, strength=_STRENGTH, spellings=spellings)
    mixture = fit_mixture(encoder_scores, _branch_scores(branch, validation), validation.labels)
    device = model.head.weight.device
    model.ngrams, model.mixture = branch.to(device), mixture.to(device)


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

    def fit(output: int) -> LogisticRegression | None:
        rows = labels.mask[:, output]
        truth = labels.values[rows, output] >= 0.5
        if truth.all() or not truth.any():
            return None
        model = LogisticRegression(C=strength, solver="liblinear", random_state=0, max_iter=300)
        return model.fit(features[rows], truth)

    # liblinear releases the interpreter's lock.
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for output, model in enumerate(threads.map(fit, range(labels.policies))):
            if model is None:
                continue
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
    """Feature rows (windows, rows) as `NgramBranch` weighs the n-grams of a block, each time that one occurs by itself; also
    sets the branch's idf."""
    counts = _counts(branch, windows)
    idf = TfidfTransformer().fit(counts).idf_
    branch.idf.copy_(torch.from_numpy(idf))
    lengths = np.sqrt(np.maximum(counts @ idf**2, 1e-12))
    return (diags(1.0 / lengths) @ counts @ diags(idf)).tocsr()


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

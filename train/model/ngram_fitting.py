"""Fitting the n-gram branch: one logistic regression an output, over word pieces, their pairs, and their spelling.

The character n-grams of a word piece are a fixed property of it, so a weight on them is a weight on the piece: pieces
that are spelt alike share what they learn ("vape", "vaping", "vaporizer"), pieces that training never met get a weight
too, and folded into the table it costs nothing in scoring. On merchants by other writers it brings the branch
from 0.725 to 0.797, to where TF-IDF with character n-grams stands (`bench/README.md`).
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags, hstack
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from .ngram_branch import NgramBranch

_CHARACTERS = (3, 5)


def piece_spellings(pieces: Sequence[str]) -> list[str]:
    """What the pieces of a vocabulary spell, with "\u2581" before those that begin a word, whatever the tokenizer's marks.

    WordPiece marks what continues a word ("##ing"), SentencePiece and byte-level BPE what begins one ("\u2581the", "\u0120the").
    """
    if any(piece.startswith("##") for piece in pieces):
        return [piece[2:] if piece.startswith("##") else f"\u2581{piece}" for piece in pieces]
    return [f"\u2581{piece[1:]}" if piece[:1] in ("\u2581", "\u0120") else piece for piece in pieces]


def _counts(branch: NgramBranch, windows: Sequence[Sequence[int]]) -> csr_matrix:
    """How often each window holds the n-grams of each row of the table, (windows, rows)."""
    owners, columns = [], []
    for owner, window in enumerate(windows):
        ids = torch.tensor([window])
        for row, whole in branch.ngrams(ids, torch.ones_like(ids)):
            columns.append(row[whole].numpy())
            owners.append(np.full(len(columns[-1]), owner))
    cells = (np.concatenate(owners), np.concatenate(columns))
    return csr_matrix((np.ones(len(cells[0])), cells), shape=(len(windows), branch.rows))


def _tf_idf(branch: NgramBranch, windows: Sequence[Sequence[int]]) -> csr_matrix:
    """Feature rows (windows, rows), what `NgramBranch.features` gives; sets the branch's idf on the way."""
    transformer = TfidfTransformer(sublinear_tf=True)
    features = transformer.fit_transform(_counts(branch, windows)).tocsr()
    branch.idf.copy_(torch.from_numpy(transformer.idf_))
    return features


def _spelling(pieces: csr_matrix, spellings: Sequence[str], *, weight: float) -> csr_matrix:
    """Character n-grams of each word piece, (vocabulary, n-grams), weighted by their rarity in the training windows
    and scaled so that a window's sum has length `weight` in root mean square.

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
    return (characters * (weight / max(length, 1e-12))).tocsr()


@torch.no_grad()
def fit_ngrams(
    branch: NgramBranch,
    windows: Sequence[Sequence[int]],
    targets: np.ndarray,
    known: np.ndarray,
    *,
    strength: float,
    spellings: Sequence[str] = (),
    spelling_weight: float = 1.0,
) -> None:
    """Fit idf, weights and biases on windows.

    :param targets: (W, outputs) labels of each window; `known` bool (W, outputs) leaves cells out.
    :param strength: inverse regularisation, scikit-learn's C.
    :param spellings: what each token id spells, from `piece_spellings`; empty leaves spelling out.
    :param spelling_weight: length of the spelling features beside the n-grams' own, which is 1.
    """
    own = _tf_idf(branch, windows)
    features, characters = own, None
    if spellings and spelling_weight:
        pieces = own[:, : len(spellings)]
        characters = _spelling(pieces, spellings, weight=spelling_weight)
        features = hstack([own, pieces @ characters]).tocsr()
    for output in range(targets.shape[1]):
        rows = known[:, output]
        labels = targets[rows, output] >= 0.5
        if labels.all() or not labels.any():
            continue
        model = LogisticRegression(C=strength, solver="liblinear", random_state=0, max_iter=300)
        model.fit(features[rows], labels)
        weights = model.coef_[0][: branch.rows]
        if characters is not None:
            weights[: len(spellings)] += characters @ model.coef_[0][branch.rows :]
        branch.weight[:, output] = torch.from_numpy(weights)
        branch.bias[output] = float(model.intercept_[0])

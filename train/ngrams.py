"""A linear branch over hashed word-piece n-grams: the lexical precision of TF-IDF, inside the same graph.

The encoder generalises, n-grams remember; their sum is better than either ("Wide & Deep", Cheng 2016). Trained
together the branch explains the training set within two epochs and leaves the encoder nothing to learn (measured:
`bench/README.md`), so it is a logistic regression of its own and the two are added afterwards. All arithmetic is on the
token ids, hashed as in Weinberger 2009, so the branch exports to ONNX.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

# Primes that spread ids over the buckets; every product stays below 2**63, so int64 never wraps.
_PRIME = 2_147_483_647
_MULTIPLIERS = (1_000_003, 998_244_353)


class NgramBranch(nn.Module):
    """Weights of a window's distinct n-grams, by (1 + log count) x idf, scaled to length 1: TF-IDF as scikit-learn
    computes it with `sublinear_tf`, then a linear map.

    :param buckets: rows of the hashed table.
    :param n_policies: K.
    :param special_ids: token ids that are no text (padding, [CLS], [SEP]); n-grams never hold them.
    :param orders: the n-gram lengths, in word pieces.
    """

    idf: Tensor
    weight: Tensor
    special_ids: Tensor

    def __init__(
        self, buckets: int, n_policies: int, special_ids: Sequence[int] = (), orders: tuple[int, ...] = (1, 2)
    ) -> None:
        super().__init__()
        self.buckets = buckets
        self.orders = orders
        self.register_buffer("idf", torch.ones(buckets))
        self.register_buffer("weight", torch.zeros(buckets, n_policies))
        # One -1 when there are none: no id is negative, and no tensor in a run is empty.
        self.register_buffer("special_ids", torch.tensor(sorted(special_ids) or [-1], dtype=torch.int64))

    def buckets_of(self, input_ids: Tensor, order: int) -> Tensor:
        """Bucket of the n-gram that starts at each position, int64 (B, T); ids past the end count as 0."""
        length = input_ids.shape[1]
        padded = nn.functional.pad(input_ids, (0, order - 1))
        hashed = torch.full_like(input_ids, order)
        for place in range(order):
            hashed = (hashed * _MULTIPLIERS[1] + padded[:, place : place + length] * _MULTIPLIERS[0]) % _PRIME
        return hashed % self.buckets

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Buckets, int64 (B, orders x T), and values, float32 of that shape, zero where no n-gram starts.

        An n-gram that stands c times has its value spread over its c positions.
        """
        length = input_ids.shape[1]
        text = (attention_mask > 0) & (input_ids.unsqueeze(-1) != self.special_ids).all(dim=-1)
        buckets, values = [], []
        for order in self.orders:
            padded = nn.functional.pad(text, (0, order - 1))
            whole = torch.stack([padded[:, place : place + length] for place in range(order)]).all(dim=0)
            bucket = self.buckets_of(input_ids, order)
            same = (bucket.unsqueeze(2) == bucket.unsqueeze(1)) & whole.unsqueeze(1)
            count = same.sum(dim=2).to(self.idf.dtype).clamp(min=1.0)
            value = (1.0 + count.log()) / count * self.idf[bucket] * whole.to(self.idf.dtype)
            buckets.append(bucket)
            values.append((value, value.square() * count))
        squares = torch.cat([square for _, square in values], dim=1).sum(dim=1, keepdim=True)
        return torch.cat(buckets, dim=1), torch.cat([v for v, _ in values], dim=1) / squares.clamp(
            min=1e-12
        ).sqrt()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Branch logits (B, K) from int64 ids and mask of shape (B, T)."""
        buckets, values = self.features(input_ids, attention_mask)
        return (nn.functional.embedding(buckets, self.weight) * values.unsqueeze(-1)).sum(dim=1)


def _matrix(branch: NgramBranch, windows: Sequence[Sequence[int]]) -> csr_matrix:
    """Feature rows (windows, buckets); one at a time, as lengths differ and nothing here is heavy."""
    rows, columns, values = [], [], []
    for row, window in enumerate(windows):
        ids = torch.tensor([window])
        bucket, value = branch.features(ids, torch.ones_like(ids))
        there = value[0] > 0
        columns.append(bucket[0][there].numpy())
        values.append(value[0][there].numpy())
        rows.append(np.full(len(columns[-1]), row))
    parts = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return csr_matrix(parts, shape=(len(windows), branch.buckets), dtype=np.float64)


@torch.no_grad()
def fit_ngrams(
    branch: NgramBranch,
    windows: Sequence[Sequence[int]],
    targets: np.ndarray,
    known: np.ndarray,
    *,
    strength: float,
) -> np.ndarray:
    """Fit idf and weights on windows; gives the intercepts, float32 (K,), which belong to the head.

    :param targets: (W, K) labels of each window; `known` bool (W, K) leaves cells out.
    :param strength: inverse regularisation, scikit-learn's C.
    """
    presence = _matrix(branch, windows) > 0
    documents = np.asarray(presence.sum(axis=0)).ravel()
    branch.idf.copy_(torch.from_numpy(np.log((1 + len(windows)) / (1 + documents)) + 1.0))
    features = _matrix(branch, windows)
    intercepts = np.zeros(targets.shape[1], dtype=np.float32)
    for policy in range(targets.shape[1]):
        rows = known[:, policy]
        labels = targets[rows, policy] >= 0.5
        if labels.all() or not labels.any():
            continue
        model = LogisticRegression(C=strength, solver="liblinear", random_state=0, max_iter=300)
        model.fit(features[rows], labels)
        branch.weight[:, policy] = torch.from_numpy(model.coef_[0])
        intercepts[policy] = model.intercept_[0]
    return intercepts

"""A linear branch over hashed word-piece n-grams: the lexical precision of a bag of words, inside the same graph.

The encoder generalises, n-grams remember; their sum is better than either ("Wide & Deep", Cheng 2016). Ids are
hashed with the hashing trick (Weinberger 2009). All arithmetic is on the ids, so the branch exports to ONNX.
"""

import torch
from torch import Tensor, nn

# Primes that spread ids over the buckets; every product stays below 2**63, so int64 never wraps.
_PRIME = 2_147_483_647
_MULTIPLIERS = (1_000_003, 998_244_353)


class NgramBranch(nn.Module):
    """Sum of a learnt weight per (n-gram, policy) over the window, divided by the root of the n-gram count.

    :param buckets: rows of the hashed table.
    :param n_policies: K.
    :param orders: the n-gram lengths, in word pieces.
    """

    def __init__(self, buckets: int, n_policies: int, orders: tuple[int, ...] = (1, 2, 3)) -> None:
        super().__init__()
        self.buckets = buckets
        self.orders = orders
        self.weight = nn.Parameter(torch.zeros(buckets, n_policies))

    def buckets_of(self, input_ids: Tensor, order: int) -> Tensor:
        """Bucket of the n-gram that starts at each position, int64 (B, T); ids past the end count as 0."""
        length = input_ids.shape[1]
        padded = nn.functional.pad(input_ids, (0, order - 1))
        hashed = torch.full_like(input_ids, order)
        for place in range(order):
            hashed = (hashed * _MULTIPLIERS[1] + padded[:, place : place + length] * _MULTIPLIERS[0]) % _PRIME
        return hashed % self.buckets

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Branch logits (B, K) from int64 ids and mask of shape (B, T)."""
        length = input_ids.shape[1]
        total = self.weight.new_zeros(input_ids.shape[0], self.weight.shape[1])
        for order in self.orders:
            ends = nn.functional.pad(attention_mask, (0, order - 1))[:, order - 1 : order - 1 + length]
            rows = nn.functional.embedding(self.buckets_of(input_ids, order), self.weight)
            total = total + (rows * ends.unsqueeze(-1).to(rows.dtype)).sum(dim=1)
        count = attention_mask.sum(dim=1, keepdim=True).to(total.dtype).clamp(min=1.0)
        return total / count.sqrt()

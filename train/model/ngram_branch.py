"""A linear branch over word-piece n-grams: the lexical precision of TF-IDF, inside the same graph.

The encoder generalises, n-grams memorise; their sum is better than either ("Wide & Deep", Cheng 2016). When both train
together, the branch explains the training set within two epochs and leaves the encoder nothing to learn (measured:
`bench/README.md`), so the branch is a logistic regression of its own (`ngram_stage.py`) and `mixture.py` joins the two.
All arithmetic is on token ids, so the branch can be exported to ONNX.
"""

from collections.abc import Sequence

import torch
from numpy.random import RandomState
from torch import Tensor, nn

ORDERS = (1, 2)


class NgramBranch(nn.Module):
    """A linear map of TF-IDF as scikit-learn computes it with `sublinear_tf`: a window's distinct word pieces and pairs of
    them, valued (1 + log count) x idf and scaled to length 1.

    The table has one row per word piece, then `buckets` rows that pairs share, hashed as in Weinberger 2009: by
    tabulation (Carter and Wegman 1979), as the sum of a random number for each of the two pieces. No number here exceeds
    2**24, so engines that compute int64 graphs in int32 or float32 (as OpenVINO does) find the same rows.

    :param vocabulary: number of token ids.
    :param n_outputs: columns of scores: one per policy, and "some violation" where the model has a gate.
    :param special_ids: token ids that are not text (padding, [CLS], [SEP]); n-grams never contain them.
    """

    idf: Tensor
    weight: Tensor
    bias: Tensor
    special_ids: Tensor
    pair_numbers: Tensor

    def __init__(
        self, vocabulary: int, buckets: int, n_outputs: int, special_ids: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.vocabulary, self.buckets = vocabulary, buckets
        self.register_buffer("idf", torch.ones(self.rows))
        self.register_buffer("weight", torch.zeros(self.rows, n_outputs))
        self.register_buffer("bias", torch.zeros(n_outputs))
        # NumPy guarantees that RandomState never changes what it draws; the numbers are always the same, so not saved.
        numbers = RandomState(0).randint(max(buckets, 1), size=(2, vocabulary))
        self.register_buffer("pair_numbers", torch.from_numpy(numbers), persistent=False)
        # A single -1 when there are none: no id is negative, and tensors in a run are never empty.
        self.register_buffer("special_ids", torch.tensor(sorted(special_ids) or [-1], dtype=torch.int64))

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return self.vocabulary + self.buckets

    def rows_of(self, input_ids: Tensor, order: int) -> Tensor:
        """Row of the n-gram that starts at each position, int64 (B, T); ids past the end count as 0."""
        if order == 1:
            return input_ids
        following = nn.functional.pad(input_ids, (0, 1))[:, 1:]
        return (
            self.vocabulary
            + (self.pair_numbers[0][input_ids] + self.pair_numbers[1][following]) % self.buckets
        )

    def ngrams(self, input_ids: Tensor, attention_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each order, rows int64 (B, T), and bool (B, T) whether an n-gram of text starts there."""
        length = input_ids.shape[1]
        text = (attention_mask > 0) & (input_ids.unsqueeze(-1) != self.special_ids).all(dim=-1)
        found = []
        for order in ORDERS:
            padded = nn.functional.pad(text, (0, order - 1))
            whole = torch.stack([padded[:, place : place + length] for place in range(order)]).all(dim=0)
            found.append((self.rows_of(input_ids, order), whole))
        return found

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Rows int64 (B, orders x T), and values float32 of that shape, zero where no n-gram starts.

        The value of an n-gram that occurs c times is divided among its c positions.
        """
        rows, values, squares = [], [], []
        for row, whole in self.ngrams(input_ids, attention_mask):
            same = (row.unsqueeze(2) == row.unsqueeze(1)) & whole.unsqueeze(1)
            count = same.sum(dim=2).to(self.idf.dtype).clamp(min=1.0)
            value = (1.0 + count.log()) / count * self.idf[row] * whole.to(self.idf.dtype)
            rows.append(row)
            values.append(value)
            squares.append(value.square() * count)
        length = torch.cat(squares, dim=1).sum(dim=1, keepdim=True).clamp(min=1e-12).sqrt()
        return torch.cat(rows, dim=1), torch.cat(values, dim=1) / length

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Branch scores (B, outputs) from int64 ids and mask of shape (B, T)."""
        rows, values = self.features(input_ids, attention_mask)
        return (nn.functional.embedding(rows, self.weight) * values.unsqueeze(-1)).sum(dim=1) + self.bias

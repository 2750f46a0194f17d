"""A linear branch over word-piece n-grams: the lexical precision of TF-IDF, inside the same graph.

The encoder generalises, n-grams remember; their sum is better than either ("Wide & Deep", Cheng 2016). Trained together,
the branch explains the training set within two epochs and leaves the encoder nothing to learn, so it is a logistic
regression of its own (`ngram_stage.py`) and `mixture.py` combines the two.

TF-IDF of a whole window is scaled by everything in the window: among the menus of a page an offer's words would weigh a
fraction of what they weigh alone. So the branch scores short overlapping blocks of two lengths, each scaled by itself, and
takes the highest: the short ones hold an offer and little else, the long ones what surrounds it. All arithmetic is on the
token ids, so the branch exports to ONNX.
"""

from collections.abc import Sequence

import torch
from numpy.random import RandomState
from torch import Tensor, nn

ORDERS = (1, 2)
BLOCKS = ((32, 16), (12, 6))
"""For each length of block its tokens, and the tokens from the start of one to the start of the next."""

_NO_BLOCK = -1e4


class NgramBranch(nn.Module):
    """Scores of a window: the highest, over its blocks, of a linear map of the block's word pieces and pairs of them,
    weighted by idf and scaled to length 1.

    The table has a row for each word piece, then `buckets` rows that pairs share, hashed as in Weinberger 2009: by
    tabulation (Carter and Wegman 1979), the sum of a random number for each of the two pieces. No number here exceeds
    2**24: engines that compute int64 graphs in int32 or in float32 (OpenVINO does) find the same rows.

    :param vocabulary: number of token ids.
    :param n_outputs: columns of scores, one per policy.
    :param special_ids: token ids that are no text (padding, [CLS], [SEP]); n-grams never contain them.
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
        # RandomState, as NumPy promises never to change what it draws; not saved, as it is always the same.
        numbers = RandomState(0).randint(max(buckets, 1), size=(2, vocabulary))
        self.register_buffer("pair_numbers", torch.from_numpy(numbers), persistent=False)
        # One -1 when there are none: no id is negative, and no tensor in a run is empty.
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

    def text_mask(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Bool (B, T): which tokens are text."""
        return (attention_mask > 0) & (input_ids.unsqueeze(-1) != self.special_ids).all(dim=-1)

    def ngrams(self, input_ids: Tensor, attention_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each order, rows int64 (B, T) and bool (B, T): whether an n-gram of text starts there."""
        length = input_ids.shape[1]
        text = self.text_mask(input_ids, attention_mask)
        found = []
        for order in ORDERS:
            padded = nn.functional.pad(text, (0, order - 1))
            whole = torch.stack([padded[:, place : place + length] for place in range(order)]).all(dim=0)
            found.append((self.rows_of(input_ids, order), whole))
        return found

    def added(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[list[Tensor], Tensor]:
        """What the n-gram of each order that starts at a token adds before scaling, float32 (B, T, outputs), and the
        squared length of both, (B, T)."""
        added, squares = [], []
        for row, whole in self.ngrams(input_ids, attention_mask):
            value = self.idf[row] * whole.to(self.idf.dtype)
            added.append(nn.functional.embedding(row, self.weight) * value.unsqueeze(-1))
            squares.append(value.square())
        return added, squares[0] + squares[1]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Branch scores (B, outputs) from int64 ids and mask of shape (B, T)."""
        (pieces, pairs), squares = self.added(input_ids, attention_mask)
        text = self.text_mask(input_ids, attention_mask).to(pieces.dtype)
        values = torch.cat([pieces + pairs, squares.unsqueeze(-1), text.unsqueeze(-1)], dim=2)
        return torch.stack([self._highest(values, *block) for block in BLOCKS]).amax(dim=0)

    def _highest(self, values: Tensor, block: int, step: int) -> Tensor:
        """The highest score (B, outputs) of the blocks of one length."""
        sums = block_sums(values, block, step)
        scores, length, tokens = sums[..., :-2], sums[..., -2:-1], sums[..., -1:]
        scores = scores / length.clamp(min=1e-12).sqrt() + self.bias
        # Blocks that only repeat the end of the one before are left out, whatever the window is padded to.
        first = torch.zeros_like(tokens)
        first[:, 0] = 1.0
        scores = torch.where(tokens > block - step, scores, torch.where(first > 0, scores, _NO_BLOCK))
        return scores.amax(dim=1)


def block_sums(values: Tensor, block: int, step: int) -> Tensor:
    """Sums over blocks of `block` tokens that begin every `step` tokens, (B, blocks, C), from (B, T, C)."""
    padded = nn.functional.pad(values.transpose(1, 2), (0, block - 1))
    return block * nn.functional.avg_pool1d(padded, block, step).transpose(1, 2)

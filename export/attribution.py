"""Attribution: what each token adds to a window's logits, so that evidence costs no further run of the model.

With softmax pooling a window's score is a weighted sum of its tokens' scores, and with mean pooling and a linear head it
is a plain one: either is divided among the tokens without approximation ("class activation mapping", Zhou 2016, for
images). The mixture of encoder and n-grams is linear too.
"""

import torch
from torch import Tensor, nn

from ..train.model.ngram_branch import BLOCKS, NgramBranch, block_sums
from ..train.model.policy_model import PolicyModel, inner_tokens


def has_attribution(model: PolicyModel) -> bool:
    """Whether the model's logits can be divided among the tokens."""
    return model.token_pooling in ("softmax", "mean")


class Explained(nn.Module):
    """A model that also gives the attribution, float32 (B, T, K): what each token adds to each policy's logit.

    Padding adds nothing. With mean pooling the attribution of a window's tokens sums up to its logit without biases; with
    softmax pooling to what the logit exceeds the score of the window's lowest token by.
    """

    def __init__(self, model: PolicyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, K), with attention pooling of windows the window scores (B, K), and the attribution."""
        model = self.model
        features = None
        if model.token_pooling == "softmax":
            scores, by_token = _softmax_pooled(model, input_ids, attention_mask)
        else:
            features, by_token = _mean_pooled(model, input_ids, attention_mask)
            scores = model.head(features)
        if model.mixture is not None and model.ngrams is not None:
            scores = model.mixture(scores, model.ngrams(input_ids, attention_mask))
            by_token = model.mixture(by_token, ngram_attribution(model.ngrams, input_ids, attention_mask))
        if model.window_scores is None:
            return scores, by_token
        return scores, model.window_scores(features), by_token


def _softmax_pooled(model: PolicyModel, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Window scores (B, K), and what each token adds to them, (B, T, K)."""
    scores, weights = model.token_scores(input_ids, attention_mask)
    text = inner_tokens(attention_mask).unsqueeze(-1)
    lowest = torch.where(text, scores, scores.amax(dim=1, keepdim=True)).amin(dim=1, keepdim=True)
    return (scores * weights).sum(dim=1), weights * (scores - lowest)


def _mean_pooled(model: PolicyModel, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """The head's input (B, hidden), and what each token adds to the head's scores, (B, T, K)."""
    hidden = model.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    # Each token's share of the head's input; their sum is `PolicyModel.features`.
    shares = hidden * mask / mask.sum(dim=1, keepdim=True).clamp(min=1.0)
    features = shares.sum(dim=1)
    scale = torch.ones_like(features[:, :1])
    if model.feature_norm:
        scale = model.feature_norm / features.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return features * scale, (shares @ model.head.weight.T) * scale.unsqueeze(1)


def ngram_attribution(branch: NgramBranch, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """What each token adds to the branch's score of a short block that holds it, (B, T, outputs): its own weight and half
    of that of each pair it is in. Of the two blocks that hold a token the longer one counts."""
    (pieces, pairs), squares = branch.added(input_ids, attention_mask)
    second = nn.functional.pad(pairs, (0, 0, 1, 0))[:, :-1]
    added = pieces + 0.5 * (pairs + second)
    block, step = BLOCKS[-1]
    lengths = block_sums(squares.unsqueeze(-1), block, step).clamp(min=1e-12).sqrt()
    lengths = torch.maximum(lengths, nn.functional.pad(lengths, (0, 0, 1, 0))[:, :-1])
    batch, blocks, _ = lengths.shape
    of_token = lengths.unsqueeze(2).expand(batch, blocks, step, 1).reshape(batch, blocks * step, 1)
    return added / of_token[:, : added.shape[1]]

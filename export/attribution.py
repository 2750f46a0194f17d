"""Attribution: what each token adds to a window's logits, so that evidence costs no further run of the model.

With mean pooling and linear scores a window's scores are sums over its tokens, so they are divided among the tokens
without approximation ("class activation mapping", Zhou 2016, for images). The mixture's gate is not linear: its tangent
at the window replaces it. What policies take from one another by competition says nothing about the text and is left out.
"""

import torch
from torch import Tensor, nn

from ..train.model.ngram_branch import NgramBranch
from ..train.model.policy_model import PolicyModel


def has_attribution(model: PolicyModel) -> bool:
    """Whether the model's logits can be divided among the tokens."""
    return model.token_pooling == "mean"


class Explained(nn.Module):
    """A model that also gives the attribution, float32 (B, T, K): what each token adds to each policy's logit.

    Padding adds nothing. The attribution of a window's tokens sums up to its logit without competition and bias, except
    that the gate is linear in it.
    """

    def __init__(self, model: PolicyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, K), with attention pooling the window scores (B, K), and the attribution."""
        model = self.model
        hidden = model.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        # Each token's share of the head's input; their sum is `PolicyModel.features`.
        shares = hidden * mask / mask.sum(dim=1, keepdim=True).clamp(min=1.0)
        features = shares.sum(dim=1)
        scale = torch.ones_like(features[:, :1])
        if model.feature_norm:
            scale = model.feature_norm / features.norm(dim=1, keepdim=True).clamp(min=1e-12)
        features = features * scale
        scores = model.head(features)
        by_token = (shares @ model.head.weight.T) * scale.unsqueeze(1)
        logits, attribution = scores, by_token
        if model.mixture is not None:
            ngrams = None
            if model.ngrams is not None:
                added = ngram_attribution(model.ngrams, input_ids, attention_mask)
                ngrams = added.sum(dim=1) + model.ngrams.bias, added
            logits = model.mixture(scores, None if ngrams is None else ngrams[0])
            attribution = model.mixture.attribution((scores, by_token), ngrams)
        if model.window_scores is None:
            return logits, attribution
        return logits, model.window_scores(features), attribution


def ngram_attribution(branch: NgramBranch, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """What each token adds to the branch's scores, (B, T, outputs): its own weight and half of that of each pair it is in."""
    rows, values = branch.features(input_ids, attention_mask)
    added = nn.functional.embedding(rows, branch.weight) * values.unsqueeze(-1)
    length = input_ids.shape[1]
    pieces, pairs = added[:, :length], added[:, length:]
    second = nn.functional.pad(pairs, (0, 0, 1, 0))[:, :-1]
    return pieces + 0.5 * (pairs + second)

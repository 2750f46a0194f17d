"""What each token adds to a window's logits: the evidence that comes with a run of the model instead of costing further ones.

With mean pooling and linear scores a window's scores are sums over its tokens, so no approximation is needed to take
them apart ("class activation mapping", Zhou 2016, for images). The mixture's gate is not linear: it is replaced by its
tangent at the window. What policies take from one another by competition says nothing about the text and is left out.
"""

import torch
from torch import Tensor, nn

from ..train.model.mixture import Mixture
from ..train.model.ngram_branch import NgramBranch
from ..train.model.policy_model import PolicyModel


def has_contributions(merged: PolicyModel) -> bool:
    """Whether the model's logits can be taken apart by token."""
    return merged.token_pooling == "mean"


class Explained(nn.Module):
    """A merged model that also gives `contributions`, float32 (B, T, K): what each token adds to each policy's logit.

    Tokens that are padding add nothing. Without competition and bias the contributions of a window sum up to its logit,
    but for the gate's curve.
    """

    def __init__(self, merged: PolicyModel) -> None:
        super().__init__()
        self.model = merged

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, K), with attention pooling the window scores (B, K), and the contributions."""
        model = self.model
        hidden = model.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        # Of each token its share of what the head reads; their sum is `PolicyModel.features`.
        shares = hidden * mask / mask.sum(dim=1, keepdim=True).clamp(min=1.0)
        features = shares.sum(dim=1)
        scale = torch.ones_like(features[:, :1])
        if model.feature_norm:
            scale = model.feature_norm / features.norm(dim=1, keepdim=True).clamp(min=1e-12)
        features = features * scale
        scores = model.head(features)
        by_token = (shares @ model.head.weight.T) * scale.unsqueeze(1)
        logits, contributions = scores, by_token
        if model.mixture is not None:
            ngrams = (
                None if model.ngrams is None else ngram_contributions(model.ngrams, input_ids, attention_mask)
            )
            sums = None if ngrams is None or model.ngrams is None else ngrams.sum(dim=1) + model.ngrams.bias
            logits = model.mixture(scores, sums)
            contributions = through_mixture(model.mixture, (scores, by_token), (sums, ngrams))
        if model.window_scores is None:
            return logits, contributions
        return logits, model.window_scores(features), contributions


def ngram_contributions(branch: NgramBranch, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """What each token adds to the branch's scores, (B, T, outputs): all of its own weight, half of each pair it is in."""
    rows, values = branch.features(input_ids, attention_mask)
    added = nn.functional.embedding(rows, branch.weight) * values.unsqueeze(-1)
    length = input_ids.shape[1]
    pieces, pairs = added[:, :length], added[:, length:]
    second = nn.functional.pad(pairs, (0, 0, 1, 0))[:, :-1]
    return pieces + 0.5 * (pairs + second)


def through_mixture(
    mixture: Mixture, encoder: tuple[Tensor, Tensor], ngrams: tuple[Tensor | None, Tensor | None]
) -> Tensor:
    """Contributions (B, T, K) to the logits from those to each part's scores.

    :param encoder: the encoder's scores of the windows and the tokens' contributions to them; `ngrams` likewise.
    """
    by_encoder, by_ngrams, gate_encoder, gate_ngrams, gate_bias, _, lift = mixture.weights.unbind()
    scores, added = encoder
    branch_scores, branch_added = ngrams
    policies = by_encoder * added if branch_added is None else by_encoder * added + by_ngrams * branch_added
    if not mixture.gated:
        return policies
    gate, gate_added = gate_encoder * scores[:, -1:] + gate_bias, gate_encoder * added[..., -1:]
    if branch_scores is not None and branch_added is not None:
        gate = gate + gate_ngrams * branch_scores[:, -1:]
        gate_added = gate_added + gate_ngrams * branch_added[..., -1:]
    # Of log sigmoid, and of softplus.
    slope = torch.sigmoid(-gate) + lift * torch.sigmoid(gate)
    return policies[..., :-1] + slope.unsqueeze(1) * gate_added

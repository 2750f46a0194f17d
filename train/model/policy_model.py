"""The classifier: an encoder with its adapter, pooling over tokens, and one logit per policy and window."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ...core.files import write_bytes
from ..processes import is_sharded, sharded_like, unsharded
from ..settings import LoraSettings, ModelSettings
from .architectures import kept_head, lora_targets
from .encoder import load_encoder
from .mixture import Mixture
from .ngram_branch import NgramBranch
from .packed_attention import encode_packed, pool_packed, unpack_hidden, unpacked
from .packing import Packed

# Most cells are negative: starting near their share saves the first steps from learning it.
_PRIOR_LOGIT = -2.0
# The gate starts open: it learns where to close.
_OPEN_GATE = 2.0
# Weight of what is no text in a softmax, as a logit: low enough to be nothing, finite in every precision.
_NOTHING = -1e4


class PolicyModel(nn.Module):
    """Window logits for every policy.

    While the encoder trains, `mixture` is None and the model returns the head's scores. The mixture that is fitted
    afterwards adds those of the n-gram branch.

    :param encoder: a transformers encoder, with or without a peft adapter.
    :param n_policies: K, the number of policies.
    """

    def __init__(self, encoder: nn.Module, settings: ModelSettings, n_policies: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.token_pooling, self.sharpness = settings.token_pooling, settings.sharpness
        self.pooling = settings.window_pooling
        config: Any = encoder.config
        self.feature_norm = settings.feature_norm
        self.dropout = nn.Dropout(settings.head_dropout)
        self.head = nn.Linear(config.hidden_size, n_policies)
        self.gate = nn.Linear(config.hidden_size, 1) if settings.gate else None
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.constant_(self.gate.bias, _OPEN_GATE)
        self.window_scores = (
            nn.Linear(config.hidden_size, n_policies) if self.pooling == "attention" else None
        )
        self.ngrams: NgramBranch | None = None
        self.mixture: Mixture | None = None
        # FSDP wraps these modules: the encoder's layers.
        self._no_split_modules = getattr(encoder, "_no_split_modules", None)

    def pooled(self, input_ids: Tensor, attention_mask: Tensor, packed: Packed | None = None) -> Tensor:
        """One vector per window, shape (B, hidden), from int64 ids and mask of shape (B, T), or from packed rows."""
        if packed is not None:
            hidden = encode_packed(self.encoder, packed)
            pooler = self._pooler() if self.token_pooling == "pooler" else None
            return pool_packed(hidden, packed, self.token_pooling, pooler)
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        if self.token_pooling == "pooler":
            return output.pooler_output
        hidden = output.last_hidden_state
        if self.token_pooling == "cls":
            return hidden[:, 0]
        mask = attention_mask.unsqueeze(-1)
        if self.token_pooling == "max":
            return hidden.masked_fill(mask == 0, torch.finfo(hidden.dtype).min).amax(dim=1)
        weights = mask.to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)

    def _pooler(self) -> Any:
        encoder: Any = self.encoder
        return (encoder.get_base_model() if hasattr(encoder, "peft_config") else encoder).pooler

    def features(self, input_ids: Tensor, attention_mask: Tensor, packed: Packed | None = None) -> Tensor:
        """The pooled vector of each window, float32 (B, hidden), scaled to `feature_norm` if that is set."""
        return self.dropout(self._scaled(self.pooled(input_ids, attention_mask, packed)))

    def _scaled(self, vectors: Tensor) -> Tensor:
        """Vectors (..., hidden) as the head reads them, in float32."""
        vectors = vectors.float()
        if self.feature_norm:
            vectors = self.feature_norm * nn.functional.normalize(vectors, dim=-1)
        return vectors

    def token_scores(
        self, input_ids: Tensor, attention_mask: Tensor, packed: Packed | None = None
    ) -> tuple[Tensor, Tensor]:
        """With softmax pooling: the score of each token for each policy, float32 (B, T, K), and its weight in the window's
        score, of the same shape; over the tokens of a window the weights of a policy sum to 1."""
        if packed is None:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        else:
            hidden, attention_mask = unpack_hidden(encode_packed(self.encoder, packed), packed)
        features = self.dropout(self._scaled(hidden))
        scores = self.head(features)
        if self.gate is not None:
            opening = self.gate(features)
            # Spelt out: exporters turn logsigmoid into log(sigmoid), which is minus infinity far below zero.
            scores = scores + opening.clamp(max=0.0) - torch.log1p(torch.exp(-opening.abs()))
        text = inner_tokens(attention_mask).unsqueeze(-1)
        weights = (self.sharpness * scores).masked_fill(~text, _NOTHING).softmax(dim=1)
        return scores, weights

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, packed: Packed | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Window logits (B, K) in float32; with attention pooling of windows also the window scores (B, K).

        :param packed: packed windows; the other two arguments are ignored then, and B is the number of documents.
        """
        pooled = None
        if self.token_pooling == "softmax":
            scores, weights = self.token_scores(input_ids, attention_mask, packed)
            logits = (scores * weights).sum(dim=1)
        else:
            pooled = self.features(input_ids, attention_mask, packed)
            logits = self.head(pooled)
        if self.mixture is not None and self.ngrams is not None:
            windows = (input_ids, attention_mask) if packed is None else unpacked(packed)
            logits = self.mixture(logits, self.ngrams(*windows))
        if self.window_scores is None:
            return logits
        return logits, self.window_scores(pooled)

    @property
    def vocabulary(self) -> int:
        """Number of token ids that the encoder knows."""
        config: Any = self.encoder.config
        return int(config.vocab_size)

    def own_parameters(self) -> dict[str, Tensor]:
        """Everything outside the encoder: head, gate, window scores, n-gram branch, mixture."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("encoder.")}


def inner_tokens(attention_mask: Tensor) -> Tensor:
    """Bool (B, T): the tokens of a window between its first and its last, which are special ones; all of a window that
    has no others."""
    mask = attention_mask > 0
    following = nn.functional.pad(mask, (0, 1))[:, 1:]
    preceding = nn.functional.pad(mask, (1, 0))[:, :-1]
    inner = mask & following & preceding
    return inner | (mask & ~inner.any(dim=1, keepdim=True))


def pool_windows(output: Tensor | tuple[Tensor, Tensor], record_of_window: Tensor, n_records: int) -> Tensor:
    """Record logits (R, K) from window logits: the maximum per policy, or their attention-weighted mean.

    :param output: the result of `PolicyModel` for the windows of `n_records` records.
    :param record_of_window: int64 (B,), the record each window belongs to.
    """
    logits, scores = output if isinstance(output, tuple) else (output, None)
    index = record_of_window.unsqueeze(1).expand_as(logits)
    if scores is None:
        empty = logits.new_full((n_records, logits.shape[1]), -torch.inf)
        return empty.scatter_reduce(0, index, logits, reduce="amax")
    empty = scores.new_full((n_records, scores.shape[1]), -torch.inf)
    top = empty.scatter_reduce(0, index, scores.detach(), reduce="amax")
    weights = torch.exp(scores - top.gather(0, index))
    zeros = torch.zeros_like(top)
    total = zeros.scatter_add(0, index, weights)
    return zeros.scatter_add(0, index, weights * logits) / total


def _add_adapter(encoder: nn.Module, lora: LoraSettings, model: ModelSettings) -> nn.Module:
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=lora_targets(encoder, lora.targets),
        modules_to_save=[kept_head(encoder)] if model.token_pooling == "pooler" else None,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        init_lora_weights=True if lora.init == "default" else lora.init,  # type: ignore[arg-type]
    )
    with warnings.catch_warnings():
        # peft still uses the old name in transformers; a user cannot change that.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return get_peft_model(encoder, config)  # type: ignore[arg-type]


def build_model(
    model: ModelSettings,
    lora: LoraSettings,
    *,
    n_policies: int,
    pretrained: bool = True,
    complete: bool = False,
) -> PolicyModel:
    """The model to train: base weights, a new adapter (or none) and a new head.

    :param complete: also add an empty n-gram branch and mixture, if the settings ask for them, for weights that are loaded
        later; in training they are fitted and added after the encoder.
    :raises SettingsError: if the base or the LoRA targets do not fit.
    """
    encoder: nn.Module = load_encoder(model, pretrained=pretrained)
    if model.token_pooling == "pooler":
        kept_head(encoder)
    if lora.enabled:
        encoder = _add_adapter(encoder, lora, model)
    elif model.token_pooling != "pooler":
        unused = getattr(encoder, "pooler", None)
        if unused is not None:
            unused.requires_grad_(False)  # processes would wait for a gradient that never comes
    result = PolicyModel(encoder, model, n_policies)
    if complete and model.ngram_buckets:
        result.ngrams = NgramBranch(result.vocabulary, model.ngram_buckets, n_policies)
        result.mixture = Mixture()
    return result


@torch.no_grad()
def start_from_descriptions(model: PolicyModel, descriptions: Sequence[Sequence[int]]) -> None:
    """Set each policy's row of the head to the encoding of its description, so that training starts from what the
    pretrained encoder already knows (a label-aware head; "Zero-shot text classification with sentence embeddings", Yin
    2019).

    Rows are centred over the policies: what all descriptions share does not tell policies apart.

    :param descriptions: token ids of one description per policy, including special tokens.
    """
    was_training = model.training
    model.eval()
    device = model.head.weight.device
    rows = [
        model.features(
            torch.tensor([ids], device=device), torch.ones((1, len(ids)), dtype=torch.int64, device=device)
        )
        for ids in descriptions
    ]
    features = nn.functional.normalize(torch.cat(rows), dim=1)
    centred = nn.functional.normalize(features - features.mean(dim=0), dim=1)
    model.head.weight.copy_(centred)
    model.head.bias.fill_(_PRIOR_LOGIT)
    model.train(was_training)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Number of trainable parameters, and of all parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, grad in sizes if grad), sum(n for n, _ in sizes)


def trained_state(model: PolicyModel) -> dict[str, Tensor]:
    """The trained weights: the adapter (or the whole encoder) under "encoder.", and everything outside the encoder."""
    state = _present_state(model)
    return {name: unsharded(tensor.detach()).cpu().contiguous().clone() for name, tensor in state.items()}


def _present_state(model: PolicyModel) -> dict[str, Tensor]:
    encoder: Any = model.encoder
    inner = get_peft_model_state_dict(encoder) if hasattr(encoder, "peft_config") else encoder.state_dict()
    return {f"encoder.{name}": tensor for name, tensor in inner.items()} | model.own_parameters()


def load_trained_state(model: PolicyModel, state: dict[str, Tensor]) -> None:
    """Load what `trained_state` returned.

    :raises RuntimeError: if names or shapes do not match the model.
    """
    encoder: Any = model.encoder
    if is_sharded(model):
        present = _present_state(model)
        state = {k: sharded_like(v, present[k]) if k in present else v for k, v in state.items()}
    inner = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    own = {k: v for k, v in state.items() if not k.startswith("encoder.")}
    if hasattr(encoder, "peft_config"):
        result = set_peft_model_state_dict(encoder, inner)
        if result.unexpected_keys:
            raise RuntimeError(f"the adapter has unknown weights: {result.unexpected_keys[:3]}")
    else:
        encoder.load_state_dict(inner)
    if model.ngrams is not None and (ids := own.get("ngrams.special_ids")) is not None:
        model.ngrams.special_ids = ids.clone()  # their number depends on the tokenizer
    missing = set(model.own_parameters()) ^ set(own)
    if missing:
        raise RuntimeError(f"the weights do not match the model: {sorted(missing)[:3]}")
    model.load_state_dict(own, strict=False)


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, atomically."""
    # Serialised here: the library's own writer hides a full disk behind another error.
    write_bytes(path, save(state))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from a safetensors file."""
    return load_file(str(path))

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
from .packed_attention import encode_packed, pool_packed, unpacked
from .packing import Packed

# Most cells are negative: starting near their share saves the first steps from learning it.
_PRIOR_LOGIT = -2.0


def n_outputs(settings: ModelSettings, n_policies: int) -> int:
    """Columns of the head and of the n-gram branch: the policies, and "some violation" with a gate."""
    return n_policies + settings.gate


def is_mixed(settings: ModelSettings) -> bool:
    """Whether a mixture is fitted after the encoder's training."""
    return settings.gate or settings.ngram_buckets > 0


class PolicyModel(nn.Module):
    """Window logits for every policy.

    While the encoder trains, `mixture` is None and the model returns the head's scores; with a gate they have K + 1
    columns, the last for "some violation". The mixture that is fitted afterwards turns them into K logits.

    :param encoder: a transformers encoder, with or without a peft adapter.
    :param n_policies: K, the number of policies.
    """

    def __init__(self, encoder: nn.Module, settings: ModelSettings, n_policies: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.token_pooling = settings.token_pooling
        self.pooling = settings.window_pooling
        config: Any = encoder.config
        self.feature_norm = settings.feature_norm
        self.dropout = nn.Dropout(settings.head_dropout)
        self.head = nn.Linear(config.hidden_size, n_outputs(settings, n_policies))
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
        """The head's input, float32 (B, hidden): the pooled vector, scaled to `feature_norm` if that is set."""
        pooled = self.pooled(input_ids, attention_mask, packed).float()
        if self.feature_norm:
            pooled = self.feature_norm * nn.functional.normalize(pooled, dim=1)
        return self.dropout(pooled)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, packed: Packed | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Window logits (B, K) in float32; with attention pooling also the window scores (B, K).

        :param packed: packed windows; the other two arguments are ignored then, and B is the number of documents.
        """
        pooled = self.features(input_ids, attention_mask, packed)
        logits = self.head(pooled)
        if self.mixture is not None:
            windows = (input_ids, attention_mask) if packed is None else unpacked(packed)
            ngrams = None if self.ngrams is None else self.ngrams(*windows)
            logits = self.mixture(logits, ngrams)
        if self.window_scores is None:
            return logits
        return logits, self.window_scores(pooled)

    @property
    def vocabulary(self) -> int:
        """Number of token ids that the encoder knows."""
        config: Any = self.encoder.config
        return int(config.vocab_size)

    def own_parameters(self) -> dict[str, Tensor]:
        """Everything outside the encoder: head, window scores, n-gram branch, mixture."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("encoder.")}


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
        result.ngrams = NgramBranch(result.vocabulary, model.ngram_buckets, n_outputs(model, n_policies))
    if complete and is_mixed(model):
        result.mixture = Mixture(gated=model.gate)
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
    # The gate's row has no description: it starts from zero, at even odds.
    model.head.weight.zero_()
    model.head.bias.zero_()
    model.head.weight[: len(descriptions)] = centred
    model.head.bias[: len(descriptions)] = _PRIOR_LOGIT
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

"""Attention that stays within each document of a packed row, and the encoders that support it.

Bidirectional encoders that take their attention from transformers' registry get one named "documents": the varlen kernel
(flash attention) on GPUs that have it, elsewhere one document at a time. Neither builds a mask of all tokens against all
tokens. Encoders with their own attention code get packed rows and a block-diagonal mask.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ...core.errors import SettingsError
from .architectures import ARCHITECTURES
from .packing import Layout, Packed

NAME = "documents"


def can_use_varlen(query: Tensor, dropout: float = 0.0) -> bool:
    """Whether the varlen kernel accepts these queries: half precision on Ampere or newer, without dropout."""
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and dropout == 0.0
        and query.shape[-1] % 8 == 0
        and torch.cuda.get_device_capability(query.device)[0] >= 8
    )


def documents_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention within documents, (1, T, H, D) from query, key and value of shape (1, H, T, D).

    Signature and keyword names are those of transformers' attention functions. Without `cu_seq_lens_q` the rows are
    padded, and this is SDPA under `attention_mask`.

    :param sliding_window: tokens see each other up to this distance minus one, as flash attention counts.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if can_use_varlen(query, dropout):
        # Imported here: older versions of torch lack this module, and only a GPU needs it.
        from torch.nn.attention.varlen import varlen_attn

        reach = -1 if sliding_window is None else sliding_window - 1
        q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        longest = int(max_length_q or query.shape[2])
        mixed: Any = varlen_attn(
            q, k, v, cu_seq_lens_q, cu_seq_lens_q, longest, longest, scale=scale, window_size=(reach, reach)
        )
        return mixed.unsqueeze(0), None
    return _one_by_one(query, key, value, cu_seq_lens_q, scale, sliding_window, dropout), None


@torch.compiler.disable
def _one_by_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    scale: float,
    sliding_window: int | None,
    dropout: float,
) -> Tensor:
    lengths = cu_seqlens.diff().tolist()
    parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    mixed = [_attend(q, k, v, scale, sliding_window, dropout) for q, k, v in parts]
    return torch.cat(mixed, dim=2).transpose(1, 2).contiguous()


def _attend(
    q: Tensor, k: Tensor, v: Tensor, scale: float, sliding_window: int | None, dropout: float
) -> Tensor:
    # Spelt out: the backward pass of fused attention is slow on CPUs.
    scores = torch.matmul(q, k.transpose(2, 3)) * scale
    length = q.shape[2]
    if sliding_window is not None and length > sliding_window:
        place = torch.arange(length, device=q.device)
        far = (place[:, None] - place[None, :]).abs() >= sliding_window
        scores = scores.masked_fill(far, -torch.inf)
    weights = functional.dropout(scores.softmax(dim=-1), p=dropout, training=dropout > 0.0)
    return torch.matmul(weights, v)


AttentionInterface.register(NAME, documents_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def _base(encoder: Any) -> Any:
    """The transformers model inside a peft one."""
    return encoder.get_base_model() if hasattr(encoder, "peft_config") else encoder


def packing_layout(encoder: Any) -> Layout | None:
    """How batches of this encoder can be packed; None where this is untested."""
    known = ARCHITECTURES.get(str(encoder.config.model_type))
    return known.packing if known is not None else None


def choose_packing(choice: str, encoder: Any, *, device: torch.device, mixed_precision: str) -> Layout | None:
    """The layout for the setting `optim.packing`; None pads.

    "auto" packs where the varlen kernel runs. A CPU uses batches of similar length, of which three tokens in a hundred
    are padding: packing has not been measured to be faster there.

    :raises SettingsError: if packing is asked for and untested for this architecture.
    """
    layout = packing_layout(encoder)
    if choice == "packed" and layout is None:
        known = sorted(name for name, a in ARCHITECTURES.items() if a.packing)
        raise SettingsError(
            f"optim.packing: packing is not supported for {encoder.config.model_type!r}; use padded or auto "
            f"(packed: {', '.join(known)})"
        )
    if choice == "packed":
        return layout
    half = mixed_precision in ("bf16", "fp16")
    return layout if choice == "auto" and layout == "flat" and device.type == "cuda" and half else None


def use_documents_attention(encoder: Any) -> str:
    """Make the encoder keep packed documents apart; returns the name of the attention that it had before."""
    base = _base(encoder)
    before: str = base.config._attn_implementation
    base.set_attn_implementation(NAME)
    return before


def restore_attention(encoder: Any, before: str) -> None:
    """Undo `use_documents_attention`."""
    _base(encoder).set_attn_implementation(before)


def encode_packed(encoder: Any, packed: Packed) -> Tensor:
    """Hidden states (B, L, hidden) of packed rows; documents do not see each other.

    :raises SettingsError: if the encoder does not support packing, or its attention would mix documents of flat rows.
    """
    config = encoder.config
    layout = packing_layout(encoder)
    # RoBERTa and MPNet count positions from one after the padding id.
    first = getattr(_base(encoder).embeddings, "padding_idx", -1) + 1
    call: dict[str, Any] = {"input_ids": packed.input_ids, "position_ids": packed.position_ids + first}
    if layout == "flat":
        if config._attn_implementation != NAME:
            raise SettingsError(
                f"packed rows under {config._attn_implementation!r} attention would mix documents; "
                "call use_documents_attention first"
            )
        # The model uses a mapping as it is, and builds no T x T mask for sliding windows.
        mask = dict.fromkeys(set(config.layer_types)) if getattr(config, "layer_types", None) else None
        cu_seqlens = packed.cu_seqlens
        lengths = {"cu_seq_lens_q": cu_seqlens, "max_length_q": packed.longest}
        return encoder(**call, attention_mask=mask, **lengths).last_hidden_state
    if layout == "rows":
        return encoder(**call, attention_mask=block_mask(packed.documents)).last_hidden_state
    raise SettingsError(f"optim.packing: packing is not supported for {config.model_type!r}")


def block_mask(documents: Tensor) -> Tensor:
    """Additive mask, float32 (B, 1, L, L): 0 within a document, the lowest number elsewhere; padding sees padding."""
    same = documents.unsqueeze(2) == documents.unsqueeze(1)
    lowest = torch.finfo(torch.float32).min
    return torch.zeros_like(same, dtype=torch.float32).masked_fill(~same, lowest).unsqueeze(1)


def pool_packed(hidden: Tensor, packed: Packed, how: str, pooler: Any = None) -> Tensor:
    """One float32 vector per document, (D, hidden), from packed hidden states: mean, cls, max or the pretrained pooler."""
    flat = hidden.flatten(0, 1)
    if how in ("cls", "pooler"):
        first = flat[packed.starts]
        return pooler(first.unsqueeze(1)) if how == "pooler" else first
    n_documents, width = len(packed.starts), flat.shape[1]
    owner, flat = packed.documents.flatten(), flat.float()
    if how == "max":
        empty = flat.new_full((n_documents + 1, width), -torch.inf)
        index = owner.unsqueeze(1).expand_as(flat)
        return empty.scatter_reduce(0, index, flat, reduce="amax")[:n_documents]
    sums = flat.new_zeros((n_documents + 1, width)).index_add(0, owner, flat)
    counts = flat.new_zeros(n_documents + 1).index_add(0, owner, torch.ones_like(flat[:, 0]))
    return (sums / counts.clamp(min=1.0).unsqueeze(1))[:n_documents]


def unpack_hidden(hidden: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
    """Hidden states of packed rows, (B, L, hidden), as padded documents (D, longest, hidden), and their mask."""
    index, mask = _places(packed)
    return hidden.flatten(0, 1)[index], mask.to(torch.int64)


def unpacked(packed: Packed) -> tuple[Tensor, Tensor]:
    """The documents as padded windows, int64 ids and mask (D, longest), for parts that read whole windows."""
    index, mask = _places(packed)
    return torch.where(mask, packed.input_ids.flatten()[index], 0), mask.to(torch.int64)


def _places(packed: Packed) -> tuple[Tensor, Tensor]:
    """Where in the flattened rows the tokens of each document are, int64 (D, longest), and bool: whether there is one."""
    flat = packed.documents.flatten()
    n_documents = len(packed.starts)
    counts = torch.bincount(flat, minlength=n_documents)[:n_documents]
    place = torch.arange(packed.longest, device=flat.device)
    index = (packed.starts.unsqueeze(1) + place.unsqueeze(0)).clamp(max=len(flat) - 1)
    return index, place.unsqueeze(0) < counts.unsqueeze(1)

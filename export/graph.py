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
from ..serve.engine.onnx_model import CONTRIBUTIONS, OUTPUTS
from ..train.model.policy_model import PolicyModel
from .attribution import Explained, has_contributions
from .merge import example_inputs

INPUTS = ("input_ids", "attention_mask")
OPSET = 18

# Protobuf cannot hold more than 2 GiB; beyond that the weights lie in a file of their own.
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
    """The module to export and the names of its outputs: with what each token adds, where the model can say that."""
    outputs = OUTPUTS[merged.pooling]
    if not has_contributions(merged):
        return merged, outputs
    return Explained(merged).eval(), (*outputs, CONTRIBUTIONS)


def can_fuse(merged: PolicyModel) -> bool:
    """Whether ONNX Runtime has attention fusions for this encoder and the graph can hold its weights."""
    encoder: Any = merged.encoder
    return encoder.config.model_type in _FUSABLE and _weight_bytes(merged) <= _LARGEST_PLAIN


def write_fused_graph(merged: PolicyModel, path: Path) -> bool:
    """Write the graph with attention, GELU and layer norms fused for ONNX Runtime on a CPU.

    The fusions know the patterns of the older tracing exporter with plain attention, not those of
    torch.export. Returns False, and writes nothing, where they find no attention to fuse.
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
    if CONTRIBUTIONS in outputs:
        axes[CONTRIBUTIONS] = axes[INPUTS[0]]
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
    """Take out where in the source each node comes from: it doubles a small file and names local paths."""
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
    """Keep back what the exporters say about themselves; the parity gate judges what they wrote."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnxruntime.transformers")]
    loggers += [
        logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("fusion_")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        # The optimizer prints, and standard output is the command's own.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

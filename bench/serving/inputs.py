"""Inputs of the peers of the serving benchmark: the texts in windows, and the encoder as a model they can serve."""

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification

from merchantguard.core.errors import RunError
from merchantguard.core.files import write_json
from merchantguard.data.cleaning.text import clean
from merchantguard.data.records.readers import read_records
from merchantguard.data.windows import WindowTokenizer
from merchantguard.export.merge import merge_adapter
from merchantguard.serve.bundle import TOKENIZER, Bundle
from merchantguard.train.model.policy_model import PolicyModel
from merchantguard.train.run import LoadedRun

_RIDGE = 10.0
_HEAD_WINDOWS = 1024
_OPSET = 18


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts, and the clean text of their windows.

    :param ids: our tokens of each window.
    :param peer_tokens: number of tokens that a peer reads: the text of a window on its own may be cut into other word
        pieces at its ends.
    """

    raw: list[str]
    windows: list[list[str]]
    ids: list[list[int]]
    peer_tokens: list[int]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the cost of a token and of a window depends on: the encoder's weights without embeddings, its attention."""

    weights: int
    hidden: int
    layers: int

    def flops(self, lengths: Sequence[int]) -> float:
        """FLOPs for windows of these lengths, without padding: 2 per weight and token, 4 T T hidden per layer."""
        tokens, squares = sum(lengths), sum(length * length for length in lengths)
        return 2.0 * self.weights * tokens + 4.0 * squares * self.hidden * self.layers


def choose_texts(files: Sequence[Path], *, count: int, seed: int) -> list[str]:
    """Up to `count` different texts of the files in random order, so that lengths are mixed as in the files."""
    texts = list(dict.fromkeys(record.text for record in read_records(files, None).records))
    return random.Random(seed).sample(texts, min(count, len(texts)))


def cut(texts: Sequence[str], tokenizer: WindowTokenizer, plain: Tokenizer) -> Texts:
    """Clean the texts and cut them as the scorer does; `plain` is the same tokenizer as a peer uses it."""
    cleaned = [clean(text).text for text in texts]
    found = [each.windows for each in tokenizer.encode_batch(cleaned)]
    windows = [
        [text[window.start : window.end] for window in each]
        for text, each in zip(cleaned, found, strict=True)
    ]
    plain.no_padding()
    plain.enable_truncation(tokenizer.window_tokens)
    encodings = plain.encode_batch([window for each in windows for window in each])
    return Texts(
        raw=list(texts),
        windows=windows,
        ids=[window.ids for each in found for window in each],
        peer_tokens=[len(encoding.ids) for encoding in encodings],
    )


def write_model_folder(run: LoadedRun, bundle: Bundle, texts: Texts, folder: Path) -> Shape:
    """Write the run's merged encoder as a `BertForSequenceClassification`, with ONNX graphs of it.

    Its head is a ridge regression from BERT's pooler to the model's own calibrated logits of these windows: the peers
    then decide roughly as the model does, and a difference in precision changes as many decisions.

    :raises RunError: if the encoder is not a BERT.
    """
    merged = merge_adapter(run.model)
    encoder: Any = merged.encoder
    if encoder.config.model_type != "bert":
        raise RunError(f"{run.path}: the peers serve BERT encoders, this is {encoder.config.model_type}")
    model = _as_classifier(encoder, labels=len(run.taxonomy))
    _fit_head(model, merged, bundle, texts.ids[:_HEAD_WINDOWS])
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    _write_tokenizer(bundle.path / TOKENIZER, folder, window_tokens=run.settings.model.window_tokens)
    write_graphs(model, folder)
    weights = sum(p.numel() for name, p in encoder.named_parameters() if name.startswith("encoder."))
    return Shape(weights, int(encoder.config.hidden_size), int(encoder.config.num_hidden_layers))


def _as_classifier(encoder: Any, *, labels: int) -> Any:
    """The encoder under BERT's own pooler (a new one where it has none) and a linear head."""
    config = type(encoder.config).from_dict(encoder.config.to_dict())
    config.num_labels, config.problem_type = labels, "multi_label_classification"
    torch.manual_seed(0)
    model: Any = BertForSequenceClassification(config)
    missing, unexpected = model.bert.load_state_dict(encoder.state_dict(), strict=False)
    if unexpected or any(not name.startswith("pooler.") for name in missing):
        raise RunError(f"the encoder does not fit BertForSequenceClassification: {missing} {unexpected}")
    return model.eval()


def _fit_head(model: Any, teacher: PolicyModel, bundle: Bundle, windows: Sequence[Sequence[int]]) -> None:
    """Ridge regression of the teacher's calibrated window logits on the pooler's output, with a constant."""
    features, logits = [], []
    with torch.inference_mode():
        for window in windows:
            ids = torch.tensor([list(window)])
            features.append(model.bert(ids, torch.ones_like(ids)).pooler_output[0])
            answer = teacher(ids, torch.ones_like(ids))
            logits.append((answer[0] if isinstance(answer, tuple) else answer)[0])
    scale, offset = bundle.calibration
    targets = torch.stack(logits).double().numpy() * scale + offset
    weight, bias = _ridge(torch.stack(features).double().numpy(), targets)
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(weight))
        model.classifier.bias.copy_(torch.from_numpy(bias))


def _ridge(
    features: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (K, F) and biases (K,); features are scaled by their spread, so that small ones are not lost."""
    mean, center = features.mean(axis=0), targets.mean(axis=0)
    spread = features.std(axis=0) + 1e-6
    scaled = (features - mean) / spread
    gram = scaled.T @ scaled + _RIDGE * np.eye(scaled.shape[1])
    weight = np.linalg.solve(gram, scaled.T @ (targets - center)).T / spread
    return weight, center - weight @ mean


def _write_tokenizer(source: Path, folder: Path, *, window_tokens: int) -> None:
    (folder / "tokenizer.json").write_bytes(source.read_bytes())
    # The plain class reads tokenizer.json as it stands, in every version of transformers.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": window_tokens,
        "model_input_names": ["input_ids", "attention_mask"],
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")},
    }
    write_json(folder / "tokenizer_config.json", settings)


def write_graphs(model: Any, folder: Path) -> None:
    """Write model.onnx, and model.fused.onnx with ONNX Runtime's own fusions, as `export/graph.py` does."""
    from onnxruntime.transformers import optimizer

    model.set_attn_implementation("eager")
    inputs = torch.ones(2, 8, dtype=torch.long)
    axes = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask")}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated; agreement is measured
        torch.onnx.export(
            model,
            (inputs, torch.ones_like(inputs)),
            str(folder / "model.onnx"),
            dynamo=False,
            input_names=list(axes),
            output_names=["logits"],
            dynamic_axes=axes | {"logits": {0: "batch"}},
            opset_version=_OPSET,
        )
    fused = optimizer.optimize_model(
        str(folder / "model.onnx"),
        model_type="bert",
        num_heads=model.config.num_attention_heads,
        hidden_size=model.config.hidden_size,
        opt_level=1,
    )
    if not fused.get_fused_operator_statistics()["Attention"]:
        raise RunError(f"{folder}: ONNX Runtime's optimizer found no attention to fuse")
    fused.save_model_to_file(str(folder / "model.fused.onnx"))

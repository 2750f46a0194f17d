"""A tiny bundle whose model is known: each policy has a word that shows it."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from merchantguard.core.files import sha256_file, write_json
from merchantguard.data.cleaning.text import CLEANING_VERSION
from merchantguard.serve import Assessment, Scorer

WORDS = {"alpha": "crimson", "beta": "walrus", "gamma": "teapot"}

SENTENCES = (
    "We sell crimson goods in every town.",
    "A walrus comes with each order.",
    "The teapot is made by hand.",
    "Shipping is free on Monday and paid on Tuesday.",
    "Call us or write a letter, we answer within two days.",
)

FILLER = "Shipping is free on Monday and paid on Tuesday.\n"
TEXTS = (
    "We sell crimson goods in every town.",
    "",
    FILLER * 3 + "A walrus comes with each order.",
    "Call us or write a letter.",
    FILLER * 12 + "The teapot is made by hand.\n" + FILLER + "crimson",
)


def same(left: Assessment, right: Assessment) -> bool:
    return (
        left.decision == right.decision
        and left.findings == right.findings
        and (left.windows, left.truncated) == (right.windows, right.truncated)
        and np.allclose(left.probabilities, right.probabilities, atol=1e-6)
    )


class KnownModel(torch.nn.Module):
    """A policy's logit is 4 where its word is in the window, else -4, plus a little that depends on all words."""

    def __init__(self, tokenizer: Tokenizer, *, attention: bool, attribution: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        table = torch.rand(tokenizer.get_vocab_size(), len(WORDS), generator=generator) * 0.1
        for column, word in enumerate(WORDS.values()):
            table[tokenizer.token_to_id(word), column] = 1.0
        self.table = torch.nn.Embedding.from_pretrained(table)
        self.attention, self.attribution = attention, attribution

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        seen = self.table(input_ids) * attention_mask.unsqueeze(-1).float()
        logits = 8.0 * (seen.amax(dim=1) > 0.5).float() - 4.0
        logits = logits + seen.sum(dim=1) / attention_mask.sum(dim=1, keepdim=True).float()
        given = (logits, 0.5 * logits) if self.attention else (logits,)
        return (*given, seen) if self.attribution else given


@pytest.fixture(scope="session")
def tokenizer(build_tokenizer: Callable[..., Tokenizer]) -> Tokenizer:
    return build_tokenizer(SENTENCES * 3, size=400)


@pytest.fixture(scope="session")
def make_bundle(tokenizer: Tokenizer) -> Callable[..., Path]:
    """Writes a bundle of the known model into a folder; `changes` replace fields of bundle.json."""

    def make(folder: Path, *, pooling: str = "max", attribution: bool = False, **changes: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        model = KnownModel(tokenizer, attention=pooling == "attention", attribution=attribution)
        _export(model, folder / "model.onnx", pooling)
        files = {name: sha256_file(folder / name) for name in ("model.onnx", "tokenizer.json")}
        document = {
            "format_version": 1,
            "name": "tiny",
            "version": "1",
            "policies": [_policy(name) for name in WORDS],
            "cleaning_version": CLEANING_VERSION,
            "window_tokens": 20,
            "stride_tokens": 6,
            "max_windows": 8,
            "pooling": pooling,
            "files": files,
        }
        write_json(folder / "bundle.json", document | changes)
        return folder

    return make


def _policy(name: str) -> dict[str, Any]:
    # Policy "beta" has no certified block threshold.
    thresholds = {"review": 0.5, "block": None if name == "beta" else 0.9}
    return {
        "id": name,
        "title": f"Policy {name}",
        "severity": "prohibited",
        "calibration": {"scale": 1.0, "bias": 0.0},
        "thresholds": thresholds,
    }


def _export(model: KnownModel, path: Path, pooling: str) -> None:
    ids = torch.ones(2, 5, dtype=torch.int64)
    outputs = ["logits", "scores"] if pooling == "attention" else ["logits"]
    outputs += ["contributions"] * model.attribution
    axes = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (ids, ids),
            str(path),
            dynamo=False,
            input_names=list(axes),
            output_names=outputs,
            dynamic_axes=axes | {name: {0: "batch"} for name in outputs},
        )


@pytest.fixture(scope="session")
def bundle_path(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "max")


@pytest.fixture(scope="session")
def explained_bundle_path(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose graph gives the attribution of tokens."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "explained", attribution=True)


@pytest.fixture(scope="session")
def attention_bundle_path(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "attention", pooling="attention")


@pytest.fixture(scope="session")
def scorer(bundle_path: Path) -> Scorer:
    return Scorer.load(bundle_path, threads=1)


@pytest.fixture
def edit_document() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Changes bundle.json in place."""

    def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
        document = json.loads((folder / "bundle.json").read_text())
        change(document)
        (folder / "bundle.json").write_text(json.dumps(document))

    return edit

"""A tiny finished run: a BERT of two layers with a LoRA adapter that changes the outputs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from merchantguard.core.decisions import Calibration
from merchantguard.core.labels import LabelMatrix
from merchantguard.data.taxonomy import Policy, Taxonomy
from merchantguard.train.calibration.thresholds import fit_thresholds
from merchantguard.train.evaluation.decision_rule import DecisionRule
from merchantguard.train.evaluation.predictions import Predictions
from merchantguard.train.model.encoder import Base
from merchantguard.train.model.policy_model import build_model
from merchantguard.train.run import LoadedRun, predictions_file
from merchantguard.train.settings import LoraSettings, ModelSettings, Settings

TEXTS = [
    "We sell crimson goods in every town, and ship them overnight without a question.",
    "A walrus comes with each order.",
    "The teapot is made by hand. Shipping is free on Monday and paid on Tuesday. " * 6,
    "Call us or write a letter, we answer within two days.",
]


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory, build_tokenizer: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=120,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    BertModel(config).save_pretrained(folder)
    build_tokenizer(TEXTS, size=120).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def make_run(base_folder: Path) -> Callable[..., LoadedRun]:
    """Builds a run in memory; keywords go to the model's settings."""

    def make(*, lora: bool = True, **model_settings: Any) -> LoadedRun:
        torch.manual_seed(1)
        settings = Settings(
            name="tiny",
            model=ModelSettings(
                base=str(base_folder), window_tokens=24, stride_tokens=6, max_windows=4, **model_settings
            ),
            lora=LoraSettings(enabled=lora, rank=2),
        )
        model = build_model(settings.model, settings.lora, n_policies=3, complete=True).eval()
        for name, weights in model.named_parameters():
            # A louder adapter would leave layer norms so little variance that they blow up rounding.
            if "lora_B" in name:
                torch.nn.init.normal_(weights, std=0.1)
            if name.startswith(("head", "window_scores")):
                torch.nn.init.normal_(weights, std=0.5)
        if model.ngrams is not None:
            torch.nn.init.normal_(model.ngrams.weight)
            model.ngrams.special_ids = torch.tensor([0, 2, 3])
        policies = (Policy(name, name.title(), "prohibited", "c", "") for name in ("alpha", "beta", "gamma"))
        probabilities = np.linspace(0.01, 0.99, 2000, dtype=np.float32)[:, None].repeat(3, axis=1)
        labels = probabilities > 0.4
        return LoadedRun(
            path=base_folder,
            settings=settings,
            taxonomy=Taxonomy(version=1, policies=tuple(policies)),
            model=model,
            rule=DecisionRule(
                Calibration(np.array([1.0, 1.5, 0.5]), np.array([0.0, 0.5, -0.5])),
                fit_thresholds(
                    probabilities, LabelMatrix(labels, np.ones_like(labels)), ("alpha", "beta", "gamma")
                ),
            ),
            metrics={},
            base=Base(name=str(base_folder), licence="Apache-2.0", sha256=None),
            data_hash="0" * 64,
        )

    return make


@pytest.fixture(scope="session")
def run(make_run: Callable[..., LoadedRun]) -> LoadedRun:
    return make_run()


@pytest.fixture
def judged_run(run: LoadedRun, tmp_path: Path) -> LoadedRun:
    """The tiny run with predictions of its held-out splits, as a finished training leaves them."""
    texts = tuple(f"{TEXTS[row % 4]} Number {row}." for row in range(40))
    labels = np.zeros((40, 3), dtype=np.float32)
    labels[np.arange(40), np.arange(40) % 3] = 1.0
    for split in ("validation", "calibration", "test"):
        predictions = Predictions(
            ids=tuple(map(str, range(40))),
            logits=np.zeros((40, 3), dtype=np.float32),
            labels=LabelMatrix(labels, np.ones((40, 3))),
            domains=tuple(f"{row}.example" for row in range(40)),
            slices={},
            texts=texts,
        )
        predictions.save(predictions_file(tmp_path / "run", split))
    (tmp_path / "run" / "tokenizer.json").write_bytes(run.tokenizer_path.read_bytes())
    return replace(run, path=tmp_path / "run")

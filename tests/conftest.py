"""Shared fixtures: a tiny real encoder with a tokenizer of its own, and records that it can learn."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

WORDS = (
    "crimson",
    "walrus",
    "teapot",
    "ledger",
    "harbour",
    "velvet",
    "copper",
    "meadow",
    "lantern",
    "bicycle",
)


@pytest.fixture(scope="session")
def build_tokenizer() -> Callable[..., Any]:
    """Builds a WordPiece tokenizer of at most `size` pieces: the texts' characters, then their commonest words.

    Not trained: the library's trainer breaks ties by hash order, and a model of random weights is another one each run.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    def build(texts: Sequence[str], *, size: int) -> Tokenizer:
        normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        words = [
            word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
        ]
        characters = sorted(set("".join(words)))
        common = [word for word, _ in sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0]))]
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        pieces = dict.fromkeys([*special, *characters, *(f"##{c}" for c in characters), *common])
        vocabulary = {piece: number for number, piece in enumerate(list(pieces)[:size])}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = splitter
        tokenizer.add_special_tokens(special)
        ends = [(name, vocabulary[name]) for name in ("[SEP]", "[CLS]")]
        tokenizer.post_processor = processors.BertProcessing(*ends)
        return tokenizer

    return build


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, build_tokenizer: Callable[..., Any]) -> Path:
    """Folder of a two-layer BERT with random weights and a WordPiece tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-base")
    corpus = [
        " ".join(WORDS),
        "we sell and ship every day to each town alpha beta gamma rule number 0123456789",
    ]
    tokenizer = build_tokenizer(corpus, size=200)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def taxonomy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A taxonomy of two policies that the shipped one knows nothing of."""
    path = tmp_path_factory.mktemp("taxonomy") / "policies.yaml"
    entries = [
        f"  - id: {name}\n    title: {name.title()}\n    severity: prohibited\n    covers: {name} goods\n    not: none\n"
        for name in ("crimson", "walrus")
    ]
    path.write_text("version: 1\npolicies:\n" + "".join(entries))
    return path


@pytest.fixture(scope="session")
def write_tiny_records() -> Callable[..., Path]:
    """Writes JSONL records whose labels are the taxonomy's two words where they stand in the text."""
    import json
    import random

    def write(path: Path, *, count: int = 96, seed: int = 0) -> Path:
        draw = random.Random(seed)
        with open(path, "w") as stream:
            for number in range(count):
                words = draw.choices(WORDS, k=draw.randint(6, 60))
                labels = sorted({"crimson", "walrus"} & set(words))
                row = {"id": f"r{number}", "domain": f"d{number % 60}.example", "text": " ".join(words)}
                stream.write(json.dumps(row | {"labels": labels}) + "\n")
        return path

    return write

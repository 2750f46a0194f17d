"""Golden texts: what the bundle states of them is what scoring them gives."""

import json
from collections.abc import Callable
from pathlib import Path

from merchantguard.export.build import export_bundle
from merchantguard.export.golden import GOLDEN, golden_texts
from merchantguard.serve import Scorer
from merchantguard.serve.preprocess import encode_texts
from merchantguard.train.run import LoadedRun


def test_a_bundle_carries_golden_texts(run: LoadedRun, tmp_path: Path) -> None:
    bundle = export_bundle(run, tmp_path / "bundle", texts=["We sell crimson goods."])
    rows = [json.loads(line) for line in (bundle.path / GOLDEN).read_text(encoding="utf-8").splitlines()]
    assert GOLDEN in bundle.files
    assert [row["text"] for row in rows] == golden_texts()
    scorer = Scorer.load(bundle.path, threads=1, variant="plain")
    for row, found in zip(rows, scorer.assess_many(golden_texts()), strict=True):
        assert row["decision"] == found.decision
        assert max(map(abs, found.probabilities - list(row["probabilities"].values()))) < 1e-6
        spans = [[[span.start, span.end] for span in each.spans] for each in found.findings]
        assert [each["spans"] for each in row["findings"]] == spans
        [encoded] = encode_texts([row["text"]], scorer.tokenizer)
        assert row["windows"] == [list(ids) for ids in encoded.ids]


def test_golden_texts_are_long_and_short_plain_and_odd(make_run: Callable[..., LoadedRun]) -> None:
    texts = golden_texts()
    assert "" in texts
    assert max(map(len, texts)) > 3000
    assert any(not text.isascii() for text in texts)

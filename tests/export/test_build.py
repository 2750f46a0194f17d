import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from merchantguard.core.errors import ParityError, StorageError
from merchantguard.export import build as exporting
from merchantguard.export.attribution import Explained
from merchantguard.export.build import export_bundle
from merchantguard.serve import Scorer
from merchantguard.serve.bundle import Bundle
from merchantguard.serve.preprocess import encode_texts
from merchantguard.train.run import LoadedRun

TEXTS = [
    "We sell crimson goods.",
    "A walrus comes with each order. " * 4,
    "Call us!",
    "The teapot is here. " * 9,
]


@pytest.fixture(scope="session")
def bundle(run: LoadedRun, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(run, tmp_path_factory.mktemp("export") / "bundle", texts=TEXTS)


def test_a_bundle_holds_all_that_scoring_needs(bundle: Bundle) -> None:
    names = {path.name for path in bundle.path.iterdir()}
    expected = {
        "bundle.json",
        "golden.jsonl",
        "model.onnx",
        "model.fused.onnx",
        "tokenizer.json",
        "README.md",
    }
    assert names == expected
    assert set(bundle.files) == names - {"bundle.json"}
    assert (bundle.name, bundle.version, bundle.label) == ("tiny", "1", "tiny@1")
    assert bundle.digest == bundle.document["digest"]
    assert (bundle.window_tokens, bundle.stride_tokens, bundle.max_windows) == (24, 6, 4)
    assert [policy.id for policy in bundle.policies] == ["alpha", "beta", "gamma"]
    assert bundle.policies[1].scale == 1.5
    thresholds = bundle.document["policies"][0]["thresholds"]
    assert thresholds["block_certificate"]["certified"] is True
    assert thresholds["block_certificate"]["precision_target"] == 0.95


def test_parity_is_measured_for_every_graph(bundle: Bundle) -> None:
    graphs = {parity["graph"]: parity for parity in bundle.document["parity"]}
    assert graphs.keys() == {"model.onnx", "model.fused.onnx", "model.onnx by openvino"}
    for parity in graphs.values():
        assert 0 <= parity["max_difference"] <= 1e-4
        assert 0 <= parity["max_attribution_difference"] <= parity["attribution_tolerance"] == 1e-3
        assert parity["texts"] == 4 + 4 + 1 + 1
        assert parity["windows"] > parity["texts"]


def test_the_variants_score_alike(bundle: Bundle) -> None:
    assert [variant.name for variant in bundle.variants][:3] == ["plain", "fused", "openvino"]
    plain = Scorer.load(bundle.path, variant="plain", threads=1)
    for name in ("fused", "openvino"):
        other = Scorer.load(bundle.path, variant=name, threads=2)
        for left, right in zip(plain.assess_many(TEXTS), other.assess_many(TEXTS), strict=True):
            assert np.allclose(left.probabilities, right.probabilities, atol=1e-4)
            assert left.decision == right.decision


def test_the_fused_graph_is_fused_and_the_plain_one_is_standard(bundle: Bundle) -> None:
    fused = onnx.load(bundle.path / "model.fused.onnx")
    assert sum(node.op_type == "Attention" for node in fused.graph.node) == 2
    plain = onnx.load(bundle.path / "model.onnx")
    assert {opset.domain for opset in plain.opset_import} == {""}
    onnx.checker.check_model(plain, full_check=True)


def test_nothing_names_the_machine_it_was_made_on(bundle: Bundle, run: LoadedRun) -> None:
    for path in bundle.path.iterdir():
        content = path.read_bytes()
        for trace in (b"site-packages", b"/train/model.py", str(run.path.parent).encode()):
            assert trace not in content, f"{path.name} holds {trace!r}"


def test_the_card_says_what_the_bundle_is(bundle: Bundle) -> None:
    card = (bundle.path / "README.md").read_text()
    for passage in ("# tiny (version 1)", "| `alpha` | Alpha |", "`model.fused.onnx`", "licence Apache-2.0"):
        assert passage in card


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"window_pooling": "attention", "ngram_buckets": 64},
        {"token_pooling": "softmax", "ngram_buckets": 64, "gate": True},
        {"token_pooling": "softmax", "gate": True},
        {"token_pooling": "cls"},
    ],
)
def test_every_kind_of_model_passes_the_gate(
    make_run: Callable[..., LoadedRun],
    tmp_path: Path,
    settings: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = export_bundle(make_run(**settings), tmp_path / "bundle", texts=TEXTS)
    assert {each["graph"] for each in bundle.document["parity"]} >= {"model.onnx", "model.fused.onnx"}
    assert bundle.pooling == settings.get("window_pooling", "max")
    assert capsys.readouterr().out == "", "standard output is the command's own"


def test_a_graph_that_says_something_else_is_refused(
    run: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_graph = exporting.write_graph

    def write_broken(merged: Any, path: Path) -> None:
        write_graph(merged, path)
        model = onnx.load(path)
        [bias] = [value for value in model.graph.initializer if value.name.endswith("head.bias")]
        values = onnx.numpy_helper.to_array(bias).copy()
        values[0] += 0.01
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        onnx.save(model, path)

    monkeypatch.setattr(exporting, "write_graph", write_broken)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("old")
    with pytest.raises(ParityError, match=r"model\.onnx: ragged batches, text 0: a probability differs"):
        export_bundle(run, tmp_path / "bundle", texts=TEXTS)
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", "bundle.json"]
    assert (tmp_path / "bundle" / "bundle.json").read_text() == "old"


def test_a_graph_whose_attribution_differs_is_refused(
    run: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Explained.forward

    def loud(
        self: Explained, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        *others, attribution = forward(self, input_ids, attention_mask)
        return *others, 1.01 * attribution

    def write_loud(merged: Any, path: Path) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Explained, "forward", loud)
            write_graph(merged, path)

    write_graph = exporting.write_graph
    monkeypatch.setattr(exporting, "write_graph", write_loud)
    with pytest.raises(ParityError, match=r"model\.onnx: the attribution of a token differs"):
        export_bundle(run, tmp_path / "bundle", texts=TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_variant_stops_the_export_too(
    run: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fused = exporting.write_fused_graph

    def write_broken(merged: Any, path: Path) -> bool:
        merged.head.bias.data[1] += 0.01
        return write_fused(merged, path)

    monkeypatch.setattr(exporting, "write_fused_graph", write_broken)
    with pytest.raises(ParityError, match=r"model\.fused\.onnx"):
        export_bundle(run, tmp_path / "bundle", texts=TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_not_overwritten(run: LoadedRun, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match="is not a bundle"):
        export_bundle(run, tmp_path, texts=TEXTS)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_fused_variant_can_be_left_out(run: LoadedRun, tmp_path: Path) -> None:
    bundle = export_bundle(run, tmp_path / "bundle", texts=TEXTS, fused=False)
    assert "fused" not in [variant.name for variant in bundle.variants]
    assert (
        json.loads((tmp_path / "bundle" / "bundle.json").read_text())["files"].keys() == bundle.files.keys()
    )


def test_reduced_precision_is_written_only_through_its_gate(run: LoadedRun, tmp_path: Path) -> None:
    """Where the run keeps no held-out predictions nothing of reduced precision is written, and the bundle says why."""
    bundle = export_bundle(run, tmp_path / "bundle", texts=TEXTS, int8=True)
    left_out = {each["name"]: each["reason"] for each in bundle.document["variants_left_out"]}
    assert {"openvino-bf16", "openvino-int8", "int8"} <= left_out.keys()
    assert "keeps no predictions" in left_out["int8"]
    assert not (bundle.path / "model.int8.onnx").exists()


def test_what_passes_its_gate_is_written_with_thresholds_of_its_own(
    judged_run: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merchantguard.export.gates.AGREEMENT", 0.0)
    monkeypatch.setattr("merchantguard.export.gates.AVERAGE_PRECISION_TOLERANCE", 2.0)
    bundle = export_bundle(judged_run, tmp_path / "bundle", texts=TEXTS, int8=True)
    [entry] = [each for each in bundle.document["variants"] if each["name"] == "int8"]
    assert entry["gate"]["records"] == 80
    assert 0 <= entry["gate"]["decisions_agreeing"] <= 1
    graph = onnx.load(bundle.path / "model.int8.onnx")
    assert any(node.op_type == "QuantizeLinear" for node in graph.graph.node)
    scorer = Scorer.load(bundle.path, variant="int8", threads=1)
    assert scorer.policies != Scorer.load(bundle.path, variant="plain").policies
    alone = scorer.assess(TEXTS[0]).probabilities
    beside = next(iter(scorer.assess_many([TEXTS[0], *TEXTS * 3]))).probabilities
    np.testing.assert_allclose(alone, beside, atol=1e-6)


def test_what_fails_its_gate_is_left_out_with_the_reason(
    judged_run: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merchantguard.export.gates.AGREEMENT", 1.01)
    monkeypatch.setattr("merchantguard.export.gates.AVERAGE_PRECISION_TOLERANCE", 2.0)
    bundle = export_bundle(judged_run, tmp_path / "bundle", texts=TEXTS, int8=True)
    reasons = {each["name"]: each["reason"] for each in bundle.document["variants_left_out"]}
    assert "of the decisions agree, fewer than" in reasons["int8"]
    assert not (bundle.path / "model.int8.onnx").exists()
    assert "model.int8.onnx" not in bundle.files
    assert "`int8` is left out" in (bundle.path / "README.md").read_text()


def test_the_first_stage_is_the_branch_of_the_run(
    make_run: Callable[..., LoadedRun], judged_run: LoadedRun, tmp_path: Path
) -> None:
    run = replace(make_run(token_pooling="softmax", gate=True, ngram_buckets=64), path=judged_run.path)
    bundle = export_bundle(run, tmp_path / "bundle", texts=TEXTS)
    assert bundle.cascade is not None
    scores = bundle.cascade.violating_scores
    assert len(scores) == 40
    assert list(scores) == sorted(scores)
    scorer = Scorer.load(bundle.path, cascade=0.2)
    assert scorer.cascade is not None
    branch, limit = run.model.ngrams, scorer.cascade.certificate.limit
    for text in (f"{TEXTS[row % 4]} Number {row}." for row in range(40)):
        [encoded] = encode_texts([text], scorer.tokenizer)
        outputs = [
            branch(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64))[0] for ids in encoded.ids
        ]
        score = max(float(each.max()) for each in outputs)
        if abs(score - limit) > 1e-4:
            assert scorer.cascade.clears([encoded]) == [score < limit]

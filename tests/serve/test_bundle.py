import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merchantguard.core.errors import BundleError
from merchantguard.core.files import sha256_file
from merchantguard.serve import Scorer
from merchantguard.serve.bundle_reader import read_bundle
from merchantguard.serve.engine.variants import choose_variant

Edit = Callable[[Path, Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "copy"))


def test_a_good_bundle_is_read(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    assert bundle.label == "tiny@1"
    assert [policy.id for policy in bundle.policies] == ["alpha", "beta", "gamma"]
    assert bundle.policies[1].block is None
    assert [(variant.name, variant.graph) for variant in bundle.variants] == [("plain", "model.onnx")]


def test_the_digest_is_of_the_content_not_of_its_layout(copy: Path, edit_document: Edit) -> None:
    before = read_bundle(copy).digest
    assert len(before) == 64
    content = json.loads((copy / "bundle.json").read_text())
    # A bundle that states its digest has the same one; the order of keys and the layout do not matter.
    (copy / "bundle.json").write_text(json.dumps(dict(reversed(content.items())) | {"digest": before}))
    assert read_bundle(copy).digest == before
    edit_document(copy, lambda document: document.update(version="2"))
    with pytest.raises(BundleError, match=r"bundle\.json: digest is not that of the content"):
        read_bundle(copy)
    edit_document(copy, lambda document: document.pop("digest"))
    assert read_bundle(copy).digest != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format_version is 2"),
        ({"format_version": True}, "format_version must be a whole number"),
        ({"cleaning_version": 99}, "cleaning_version is 99"),
        ({"pooling": "mean"}, "pooling is 'mean'"),
        ({"policies": []}, "policies is empty"),
        ({"policies": {}}, "policies must be a list"),
        ({"name": " "}, "name must be a text"),
        ({"stride_tokens": 30}, "stride_tokens 30 does not fit"),
        ({"max_windows": 0}, "max_windows is 0"),
        ({"files": {}}, "model.onnx is not listed"),
        ({"files": []}, "files must map"),
        ({"any_violation": {"review": 1.5}}, "any_violation: review is 1.5"),
        ({"any_violation": {}}, "any_violation: review is missing"),
        ({"any_violation": 0.5}, "any_violation: must be an object"),
    ],
)
def test_a_wrong_field_is_named(
    copy: Path, edit_document: Edit, change: dict[str, Any], message: str
) -> None:
    edit_document(copy, lambda document: document.update(change))
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(copy)
    assert "bundle.json" in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            ("calibration", "scale"),
            float("nan"),
            r"policies\[1\]: calibration: scale must be a finite number",
        ),
        (("calibration", "bias"), "0", "bias must be a finite number"),
        (("thresholds", "review"), 1.5, "needs 0 <= review <= block <= 1"),
        (("thresholds", "block"), 0.1, "needs 0 <= review <= block <= 1"),
        (("thresholds", "block"), float("inf"), "block must be a finite number"),
    ],
)
def test_a_wrong_number_is_named(
    copy: Path, edit_document: Edit, place: tuple[str, str], value: Any, message: str
) -> None:
    def change(document: dict[str, Any]) -> None:
        document["policies"][1][place[0]][place[1]] = value

    edit_document(copy, change)
    with pytest.raises(BundleError, match=message):
        read_bundle(copy)


def test_a_missing_field_is_named(copy: Path, edit_document: Edit) -> None:
    edit_document(copy, lambda document: document.pop("window_tokens"))
    with pytest.raises(BundleError, match="window_tokens is missing"):
        read_bundle(copy)


def test_a_policy_named_twice_is_refused(copy: Path, edit_document: Edit) -> None:
    edit_document(copy, lambda document: document["policies"].append(document["policies"][0]))
    with pytest.raises(BundleError, match="names alpha twice"):
        read_bundle(copy)


@pytest.mark.parametrize(
    "name", ["../model.onnx", "/etc/passwd", "a/b", "..", ".hidden", "bundle.json", "a\\b", "a\n"]
)
def test_a_name_that_leaves_the_folder_is_refused(copy: Path, edit_document: Edit, name: str) -> None:
    edit_document(copy, lambda document: document["files"].update({name: "0" * 64}))
    with pytest.raises(BundleError, match="not the plain name"):
        read_bundle(copy)


def test_links_to_files_are_followed(copy: Path, tmp_path: Path) -> None:
    """As in a volume of Kubernetes, where each file is a link through the link ..data."""
    volume = tmp_path / "volume"
    volume.mkdir()
    copy.rename(volume / "..v1")
    (volume / "..data").symlink_to("..v1")
    for file in (volume / "..v1").iterdir():
        (volume / file.name).symlink_to(Path("..data") / file.name)
    assert Scorer.load(volume, threads=1).assess("A walrus.").decision == "review"


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["device", "pipe", "socket"])
def test_links_to_what_is_no_file_are_refused(copy: Path, tmp_path: Path, name: str, kind: str) -> None:
    # A socket's path has little room: the folder of the test may be too long for it.
    place = Path(tempfile.mkdtemp()) / kind
    if kind == "pipe":
        os.mkfifo(place)
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "socket":
            server.bind(str(place))
        (copy / name).unlink()
        (copy / name).symlink_to("/dev/zero" if kind == "device" else place)
        with pytest.raises(BundleError, match="not a file"):
            read_bundle(copy)
    shutil.rmtree(place.parent)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_changed_byte_is_found(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}: SHA-256 is"):
        Scorer.load(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json: listed"):
        read_bundle(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_document_is_refused(copy: Path, content: bytes) -> None:
    (copy / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_bundle(copy)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is .* a bundle"):
        read_bundle(tmp_path)


def test_files_that_fit_their_hashes_but_are_not_what_they_should_be(copy: Path, edit_document: Edit) -> None:
    import hashlib

    for name in ("model.onnx", "tokenizer.json"):
        broken = Path(shutil.copytree(copy, copy.parent / f"broken-{name}"))
        (broken / name).write_bytes(b"{}")
        digest = hashlib.sha256(b"{}").hexdigest()
        edit_document(broken, lambda document, n=name, d=digest: document["files"].update({n: d}))  # type: ignore[misc]
        with pytest.raises(BundleError, match=name):
            Scorer.load(broken)


def test_a_graph_of_another_number_of_policies_is_refused(copy: Path, edit_document: Edit) -> None:
    edit_document(copy, lambda document: document["policies"].pop())
    with pytest.raises(BundleError, match=r"gives shape \(1, 3\) for one window of 2 policies"):
        Scorer.load(copy)


def test_a_graph_without_scores_cannot_pool_by_attention(copy: Path, edit_document: Edit) -> None:
    edit_document(copy, lambda document: document.update(pooling="attention"))
    with pytest.raises(BundleError, match="scores is needed"):
        Scorer.load(copy)


FUSED = {"name": "fused", "graph": "model.fused.onnx", "engine": "onnxruntime", "precision": "fp32"}


@pytest.fixture
def with_variant(copy: Path, edit_document: Edit) -> Callable[..., Path]:
    """The bundle with a second graph and one variant that runs it; `changes` replace fields of the variant."""

    def add(**changes: Any) -> Path:
        shutil.copy(copy / "model.onnx", copy / "model.fused.onnx")

        def change(document: dict[str, Any]) -> None:
            document["files"]["model.fused.onnx"] = document["files"]["model.onnx"]
            document["variants"] = [FUSED | changes]

        edit_document(copy, change)
        return copy

    return add


def test_the_fused_variant_is_preferred_and_plain_can_be_chosen(with_variant: Callable[..., Path]) -> None:
    folder = with_variant()
    assert choose_variant(read_bundle(folder)).name == "fused"
    assert Scorer.load(folder).variant == "fused"
    assert Scorer.load(folder, variant="plain").variant == "plain"
    with pytest.raises(BundleError, match="no variant 'int8'; it has plain, fused"):
        Scorer.load(folder, variant="int8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "abacus"}, "engine is 'abacus'; known: onnxruntime, openvino"),
        ({"precision": "fp4"}, "precision is 'fp4'; known: fp32, bf16, int8"),
        ({"graph": "../model.onnx"}, "files does not list"),
        ({"name": "plain"}, "names plain twice"),
        ({"policies": []}, "policies is empty"),
    ],
)
def test_a_wrong_variant_is_refused(
    with_variant: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        read_bundle(with_variant(**changes))


def test_a_variant_decides_by_thresholds_of_its_own(with_variant: Callable[..., Path], copy: Path) -> None:
    policies = json.loads((copy / "bundle.json").read_text())["policies"]
    for policy in policies:
        policy["thresholds"] = {"review": 1.0, "block": None}
    folder = with_variant(policies=policies)
    text = "We sell crimson goods in every town."
    assert Scorer.load(folder, variant="plain").assess(text).decision == "block"
    assert Scorer.load(folder, variant="fused").assess(text).decision == "clear"
    other = with_variant(policies=policies[::-1])
    with pytest.raises(BundleError, match="policies are not those of the bundle"):
        read_bundle(other)


def test_what_the_machine_cannot_run_is_passed_over_and_named_when_asked_for(
    with_variant: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merchantguard.serve.engine.variants.find_spec", lambda name: None)
    folder = with_variant(engine="openvino")
    assert Scorer.load(folder).variant == "plain"
    with pytest.raises(BundleError, match=r"cannot run here: it needs OpenVINO: pip install"):
        Scorer.load(folder, variant="fused")


def test_a_provider_that_is_not_there_is_named(copy: Path) -> None:
    with pytest.raises(BundleError, match=r"no NoSuchProvider here; it has .*CPUExecutionProvider"):
        Scorer.load(copy, provider="NoSuchProvider")
    scorer = Scorer.load(copy, provider="CPUExecutionProvider")
    assert scorer.assess("We sell crimson goods in every town.").decision == "block"


def test_openvino_gives_the_probabilities_of_onnx_runtime(with_variant: Callable[..., Path]) -> None:
    pytest.importorskip("openvino")
    folder = with_variant(engine="openvino")
    texts = ["We sell crimson goods in every town.", "", "A walrus comes with each order. " * 40]
    for threads in (1, 3):
        loaded = (Scorer.load(folder, variant=name, threads=threads) for name in ("plain", "fused"))
        plain, other = (list(scorer.assess_many(texts * 9, remember=0)) for scorer in loaded)
        for left, right in zip(plain, other, strict=True):
            np.testing.assert_allclose(left.probabilities, right.probabilities, atol=1e-5)


@pytest.mark.parametrize("name", ["model.onnx", "model.fused.onnx"])
def test_a_graph_that_openvino_cannot_read_is_refused_by_name(
    with_variant: Callable[..., Path], edit_document: Edit, name: str
) -> None:
    pytest.importorskip("openvino")
    folder = with_variant(engine="openvino", graph=name)
    (folder / name).write_bytes(b"no graph")
    digest = sha256_file(folder / name)
    edit_document(folder, lambda document: document["files"].update({name: digest}))
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        Scorer.load(folder, variant="fused")

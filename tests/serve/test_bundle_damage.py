"""Files damaged in every way are refused with an error that begins with the file's path."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.core.errors import BundleError
from merchantguard.core.files import sha256_file
from merchantguard.serve import Scorer
from merchantguard.serve.preprocess import encode_texts

GRAPHS = ("model.onnx", "model.fused.onnx", "model.first.onnx")
LISTED = (*GRAPHS, "tokenizer.json", "README.md")
NAMES = (*LISTED, "bundle.json")
# How a bundle is loaded, so that the content of the file is used.
OPENED_BY: dict[str, dict[str, Any]] = {
    "model.onnx": {"variant": "plain"},
    "model.fused.onnx": {"variant": "fused"},
    "model.first.onnx": {"cascade": 0.9},
    "tokenizer.json": {},
}
PLACES = st.integers(0, 10**6)


@pytest.fixture(scope="session")
def whole(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every kind of file that a bundle may list."""
    folder = make_bundle(tmp_path_factory.mktemp("damage") / "bundle")
    for graph in GRAPHS[1:]:
        shutil.copy(folder / "model.onnx", folder / graph)
    (folder / "README.md").write_text("# A card\n")
    variant = {"name": "fused", "graph": "model.fused.onnx", "engine": "onnxruntime", "precision": "fp32"}
    stage = {"graph": "model.first.onnx", "confidence": 0.5, "violating_scores": [0.5, 1.5, 2.5]}
    files = {name: sha256_file(folder / name) for name in LISTED}
    return make_bundle(folder, variants=[variant], first_stage=stage, files=files)


@contextmanager
def copied(folder: Path) -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(shutil.copytree(folder, Path(name) / "bundle"))


def assert_refused(folder: Path, name: str) -> None:
    with pytest.raises(BundleError) as caught:
        Scorer.load(folder, threads=1, **OPENED_BY.get(name, {}))
    assert str(caught.value).startswith(f"{folder / name}: ")


def replace(folder: Path, name: str, content: bytes) -> None:
    """Put the content there, and its hash into bundle.json."""
    (folder / name).write_bytes(content)
    document = json.loads((folder / "bundle.json").read_text())
    document["files"][name] = sha256_file(folder / name)
    (folder / "bundle.json").write_text(json.dumps(document))


@given(st.sampled_from(NAMES), PLACES)
@settings(max_examples=60, deadline=None)
def test_a_file_cut_off_anywhere_is_refused(whole: Path, name: str, place: int) -> None:
    with copied(whole) as folder:
        content = (folder / name).read_bytes().rstrip()
        (folder / name).write_bytes(content[: place % len(content)])
        assert_refused(folder, name)


@given(st.sampled_from(LISTED), PLACES, st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_flipped_byte_in_a_listed_file_is_refused(whole: Path, name: str, place: int, flip: int) -> None:
    with copied(whole) as folder:
        content = bytearray((folder / name).read_bytes())
        content[place % len(content)] ^= flip
        (folder / name).write_bytes(content)
        assert_refused(folder, name)


@given(st.sampled_from(NAMES), st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_junk_in_place_of_a_file_is_refused(whole: Path, name: str, junk: bytes) -> None:
    with copied(whole) as folder:
        (folder / name).write_bytes(junk)
        assert_refused(folder, name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["missing", "folder", "dangling link", "loop", "pipe"])
def test_what_is_no_file_is_refused(whole: Path, kind: str, name: str) -> None:
    with copied(whole) as folder:
        place = folder / name
        place.unlink()
        if kind == "folder":
            place.mkdir()
        elif kind == "pipe":
            os.mkfifo(place)
        elif kind != "missing":
            place.symlink_to(place if kind == "loop" else folder / "nowhere")
        assert_refused(folder, name)


def test_a_file_of_a_name_that_no_disk_holds_is_refused(whole: Path) -> None:
    with copied(whole) as folder:
        document = json.loads((folder / "bundle.json").read_text())
        document["files"]["a" * 300] = "0" * 64
        (folder / "bundle.json").write_text(json.dumps(document))
        assert_refused(folder, "a" * 300)


# -- content that fits its hash -----------------------------------------------------------------------------


@given(st.sampled_from(list(OPENED_BY)), PLACES)
@settings(max_examples=60, deadline=None)
def test_content_cut_off_under_a_right_hash_is_refused(whole: Path, name: str, place: int) -> None:
    with copied(whole) as folder:
        content = (folder / name).read_bytes().rstrip()
        replace(folder, name, content[: place % len(content)])
        assert_refused(folder, name)


@given(st.sampled_from(list(OPENED_BY)), st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_junk_under_a_right_hash_is_refused(whole: Path, name: str, junk: bytes) -> None:
    with copied(whole) as folder:
        replace(folder, name, junk)
        assert_refused(folder, name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(JSON)
@settings(max_examples=40, deadline=None)
def test_other_json_is_no_tokenizer(whole: Path, value: Any) -> None:
    with copied(whole) as folder:
        replace(folder, "tokenizer.json", json.dumps(value).encode())
        assert_refused(folder, "tokenizer.json")


def _paths(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        if key != "vocab":
            yield from _paths(inner, (*path, key))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_tokenizer_of_another_field_is_refused_or_reads_any_text(whole: Path, data: st.DataObject) -> None:
    tokenizer = json.loads((whole / "tokenizer.json").read_text())
    *above, last = data.draw(st.sampled_from(list(_paths(tokenizer))))
    node: Any = tokenizer
    for key in above:
        node = node[key]
    node[last] = data.draw(JSON)
    with copied(whole) as folder:
        replace(folder, "tokenizer.json", json.dumps(tokenizer).encode())
        try:
            scorer = Scorer.load(folder, threads=1)
        except BundleError as error:
            fault = str(error)
        else:
            fault = f"{folder}/tokenizer.json: none"
            assert (
                len(encode_texts(["", "crimson", "日本 ꙮ \U000f0000 [SEP]", "\ud800"], scorer.tokenizer)) == 4
            )
    assert fault.startswith(f"{folder}/tokenizer.json: ")


def _without_the_unknown_token(tokenizer: Any) -> None:
    del tokenizer["model"]["vocab"]["[UNK]"]
    tokenizer["added_tokens"] = [each for each in tokenizer["added_tokens"] if each["content"] != "[UNK]"]


def _without_the_first_token(tokenizer: Any) -> None:
    # The tokenizers library panics at this, with an exception that is no Exception.
    single = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    kind = {"type": "TemplateProcessing", "single": single, "pair": [*single, *single]}
    tokenizer["post_processor"] = kind | {"special_tokens": {}}


@pytest.mark.parametrize("break_it", [_without_the_unknown_token, _without_the_first_token])
def test_a_tokenizer_that_fails_only_at_a_text_is_refused(
    whole: Path, break_it: Callable[[Any], None]
) -> None:
    with copied(whole) as folder:
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        break_it(tokenizer)
        replace(folder, "tokenizer.json", json.dumps(tokenizer).encode())
        assert_refused(folder, "tokenizer.json")


@pytest.mark.parametrize("count", [1, -1])
def test_a_graph_with_a_name_that_is_no_text_is_refused_and_prints_nothing(
    whole: Path, capfd: pytest.CaptureFixture[str], count: int
) -> None:
    with copied(whole) as folder:
        content = (folder / "model.onnx").read_bytes()
        replace(folder, "model.onnx", content.replace(b"input_ids", b"input_id\xff", count))
        assert_refused(folder, "model.onnx")
    assert capfd.readouterr().out == "", "standard output belongs to the results"

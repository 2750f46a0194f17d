"""Every field of bundle.json with every wrong value: refused by name, or the scorer does what the field then states."""

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from merchantguard.core.errors import BundleError
from merchantguard.core.files import sha256_file
from merchantguard.serve import Scorer
from merchantguard.serve.bundle_reader import parse_document, read_bundle
from merchantguard.serve.preprocess import encode_texts

LISTED = ("model.onnx", "model.fused.onnx", "tokenizer.json", "README.md")
TEXT = "crimson walrus"

Json = Any
Place = tuple[str | int, ...]
MayBe = Callable[[Json, Json], bool]


@pytest.fixture(scope="module")
def document(make_bundle: Callable[..., Path], folder: Path) -> Json:
    """A bundle.json that has everything one may have; tests leave it as it is."""
    shutil.copy(make_bundle(folder) / "model.onnx", folder / "model.fused.onnx")
    (folder / "README.md").write_text("# A card\n")
    content = json.loads((folder / "bundle.json").read_text())
    for policy in content["policies"]:
        policy["thresholds"]["review_certificate"] = {"certified": True, "positives": 73}
    own = json.loads(json.dumps(content["policies"]))
    own[0]["calibration"] = {"scale": 0.25, "bias": -0.125, "length": 0.5}
    own[0]["thresholds"]["block_certificate"] = {"scope": "pooled", "found": 73}
    variant = {"name": "fused", "graph": "model.fused.onnx", "engine": "onnxruntime", "precision": "fp32"}
    some = {"review": 0.125, "scale": 0.5, "bias": -0.25, "length": 0.75}
    variant |= {"policies": own, "any_violation": some, "gate": {"records": 127}}
    variant |= {"prevalence": {"stated": 0.25, "calibration": 0.5}}
    stage = {"graph": "model.fused.onnx", "confidence": 0.5, "violating_scores": [0.5, 1.5, 2.5]}
    limit = {"review": 0.25, "review_certificate": {"found": 73}}
    content |= {"variants": [variant], "first_stage": stage, "any_violation": limit, "data_hash": "abc"}
    content |= {"metrics": {"records": 127, "interval": [0.25, 0.75]}, "base": {"licence": "MIT"}}
    return content | {"files": {name: sha256_file(folder / name) for name in LISTED}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, whose bundle.json each test writes."""
    return tmp_path_factory.mktemp("fields") / "bundle"


@pytest.fixture(scope="module")
def logits(folder: Path, document: Json) -> list[float]:
    """The model's logits for `TEXT`, which fits into the smallest window that a bundle may have."""
    _write(folder, document)
    scorer = Scorer.load(folder, threads=1)
    windows = encode_texts([TEXT], scorer.tokenizer)[0].ids
    return [float(each) for each in scorer.runner.run(windows, batch_tokens=512).logits[0]]


def _write(folder: Path, document: Json) -> None:
    # Python writes what no float can hold as a word; other programs write the number.
    (folder / "bundle.json").write_text(json.dumps(document).replace("Infinity", "1e400"))


def assert_scores_as_stated(folder: Path, document: Json, logits: list[float]) -> None:
    """The bundle loads, and decides on `TEXT` by the rules that the document states, read here a second time."""
    variant = (document.get("variants") or [{}])[0]
    rules = variant.get("policies", document["policies"])
    some = variant.get("any_violation", document.get("any_violation", {"review": 0}))
    limit = some["review"]
    prevalence = (variant if "policies" in variant else document).get("prevalence")
    found = Scorer.load(folder, threads=1).assess(TEXT)
    decided = {finding.policy: finding.decision for finding in found.findings}
    # TEXT is one window, so that no length matters.
    alone = []
    for policy, logit in zip(rules, logits, strict=True):
        odds = policy["calibration"]["scale"] * logit + policy["calibration"]["bias"]
        alone.append(_sigmoid(odds))
    independent = max(1 - math.prod(1 - each for each in alone), 1e-300)
    odds = math.log(independent) - math.log(max(1 - independent, 1e-300))
    before = max(_sigmoid(some.get("scale", 1) * odds + some.get("bias", 0)), *alone)
    after = before
    if prevalence is not None:
        weight = prevalence["stated"] / prevalence["calibration"]
        other = (1 - prevalence["stated"]) / (1 - prevalence["calibration"])
        after = before * weight / (before * weight + (1 - before) * other)
    assert math.isclose(found.any_violation, after, abs_tol=1e-6)
    for policy, single, probability in zip(rules, alone, found.probabilities, strict=True):
        thresholds = policy["thresholds"]
        stated = float(np.float32(single * after / before)) if before else 0.0
        assert math.isclose(stated, probability, abs_tol=1e-6)
        wanted = "review" if stated >= thresholds["review"] and found.any_violation >= limit else None
        if thresholds["block"] is not None and stated >= thresholds["block"]:
            wanted = "block"
        assert decided.get(policy["id"]) == wanted
    assert found.bundle == f"{document['name']}@{document['version']}"


def _sigmoid(odds: float) -> float:
    return 1 / (1 + math.exp(-min(max(odds, -700.0), 700.0)))


# -- the contract of bundle.json, in a second wording -------------------------------------------------------


def _text(value: Json, _: Json) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _whole(value: Json) -> bool:
    return type(value) is int and abs(value) < 2**31


def _number(value: Json) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _never(value: Json, _: Json) -> bool:
    return False


def _share(value: Json, _: Json) -> bool:
    return _number(value) and 0 <= value <= 1


def _rising(value: Json, _: Json) -> bool:
    return isinstance(value, list) and all(map(_number, value)) and value == sorted(value)


POLICY: dict[str, MayBe] = {
    "": _never,
    ".id": _never,  # those of the variant must stay equal to the bundle's
    ".title": _text,
    ".severity": _text,
    ".calibration": _never,
    ".calibration.scale": lambda value, _: _number(value) and value > 0,
    ".calibration.bias": lambda value, _: _number(value),
    ".calibration.length": lambda value, _: _number(value) and value >= 0,
    ".thresholds": _never,
    ".thresholds.block_certificate": lambda value, _: isinstance(value, dict) and "scope" not in value,
    ".thresholds.block_certificate.scope": lambda value, _: value in ("policy", "pooled"),
    ".thresholds.review": lambda value, near: _number(value) and 0 <= value <= (near["block"] or 1),
    ".thresholds.block": lambda value, near: (
        value is None or (_number(value) and near["review"] <= value <= 1)
    ),
}
# What a field may hold other than its good value, given its neighbours. A field that is not here is never read: it may
# hold anything, or be missing.
MAY_BE: dict[str, MayBe] = {
    **dict.fromkeys(("format_version", "cleaning_version", "pooling", "files", "policies"), _never),
    **{f"files.{name}": _never for name in LISTED},
    "name": _text,
    "version": _text,
    "window_tokens": lambda value, near: _whole(value) and near["stride_tokens"] < value - 2,
    "stride_tokens": lambda value, near: _whole(value) and 0 <= value < near["window_tokens"] - 2,
    "max_windows": lambda value, _: _whole(value) and value >= 1,
    "any_violation": _never,
    "any_violation.review": _share,
    "first_stage": _never,
    "first_stage.graph": _never,
    "first_stage.confidence": lambda value, _: _number(value) and 0 < value < 1,
    "first_stage.violating_scores": _rising,
    "first_stage.violating_scores.*": lambda _, near: _rising(near, None),
    "variants": lambda value, _: value == [],
    "variants.*": _never,
    "variants.*.name": _text,
    **{f"variants.*.{key}": _never for key in ("graph", "engine", "precision", "any_violation", "policies")},
    "variants.*.any_violation.review": _share,
    "variants.*.any_violation.scale": lambda value, _: _number(value) and value > 0,
    "variants.*.any_violation.bias": lambda value, _: _number(value),
    "variants.*.any_violation.length": lambda value, _: _number(value) and value >= 0,
    "variants.*.prevalence": lambda value, _: value is None,
    "variants.*.prevalence.stated": lambda value, _: _number(value) and 0 < value < 1,
    "variants.*.prevalence.calibration": lambda value, _: _number(value) and 0 < value < 1,
    **{f"policies.*{key}": check for key, check in POLICY.items()},
    **{f"variants.*.policies.*{key}": check for key, check in POLICY.items()},
}
MAY_BE_GONE = {
    *("any_violation", "first_stage", "first_stage.violating_scores.*", "files.README.md"),
    *("variants", "variants.*", "variants.*.any_violation", "variants.*.policies"),
    *("variants.*.any_violation.length", "variants.*.prevalence"),
    *(f"variants.*.policies.*.{key}" for key in ("calibration.length", "thresholds.block_certificate")),
    "variants.*.policies.*.thresholds.block_certificate.scope",
}


def _kind(place: Place) -> str:
    return ".".join("*" if isinstance(key, int) else key for key in place)


def _at(document: Json, place: Place) -> Json:
    for key in place:
        document = document[key]
    return document


def _may_be(place: Place, document: Json) -> bool:
    """Whether a bundle may hold what the document, otherwise a good one, holds there."""
    check = MAY_BE.get(_kind(place))
    return check is None or check(_at(document, place), _at(document, place[:-1]))


def _may_be_gone(place: Place) -> bool:
    return _kind(place) in MAY_BE_GONE or _kind(place) not in MAY_BE


def _places(node: Json, place: Place = ()) -> Iterator[Place]:
    """Every key and list entry, at all depths."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in pairs:
        yield (*place, key)
        yield from _places(inner, (*place, key))


def _leaves(document: Json) -> dict[Place, str]:
    """The leaves of a document, as JSON."""
    found = {place: _at(document, place) for place in _places(document)}
    return {
        place: json.dumps(value)
        for place, value in found.items()
        if not isinstance(value, dict | list) or not value
    }


# -- the tests ----------------------------------------------------------------------------------------------

GONE = object()
DEEP: Json = json.loads("[" * 200 + "]" * 200)
WRONG = (None, True, False, -1, 10**400, math.inf, math.nan, "", [], {}, DEEP, GONE)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _changed(document: Json, place: Place, value: Json) -> tuple[Json, bool]:
    """A copy with `value` there, or with nothing for `GONE`; and whether a bundle may be like this."""
    changed = json.loads(json.dumps(document))
    if value is GONE:
        del _at(changed, place[:-1])[place[-1]]
        return changed, _may_be_gone(place)
    _at(changed, place[:-1])[place[-1]] = value
    return changed, _may_be(place, changed)


def _fault(read: Callable[..., Any], *arguments: Any) -> str | None:
    """Why the bundle is refused; None where it is not."""
    try:
        read(*arguments)
    except BundleError as error:
        return str(error)
    return None


def test_the_undamaged_bundle_scores_as_stated(folder: Path, document: Json, logits: list[float]) -> None:
    _write(folder, document)
    assert_scores_as_stated(folder, document, logits)
    assert Scorer.load(folder).variant == "fused"


def test_every_field_is_checked_or_never_read(folder: Path, document: Json) -> None:
    """All fields with all wrong values."""
    for place in _places(document):
        for value in WRONG:
            if value is not GONE and json.dumps(value) == json.dumps(_at(document, place)):
                continue
            changed, legal = _changed(document, place, value)
            file, _, fault = (_fault(parse_document, changed, folder) or "").partition(": ")
            assert file == ("" if legal else str(folder / "bundle.json"))
            assert legal or str(place[0]) in fault


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_field_of_any_value_is_refused_or_does_what_it_states(
    folder: Path, document: Json, logits: list[float], data: st.DataObject
) -> None:
    place = data.draw(st.sampled_from(list(_places(document))))
    changed, legal = _changed(document, place, data.draw(ANYTHING | st.sampled_from(WRONG)))
    assume(json.dumps(changed) != json.dumps(document))
    _write(folder, changed)
    if legal:
        assert_scores_as_stated(folder, changed, logits)
    else:
        with pytest.raises(BundleError) as caught:
            Scorer.load(folder, threads=1)
        assert str(caught.value).startswith(f"{folder}/bundle.json: ")


@given(st.integers(0, 10**6), st.integers(1, 255) | st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]))
@settings(max_examples=150, deadline=None)
def test_a_flipped_byte_is_refused_or_states_another_legal_bundle(
    folder: Path, document: Json, logits: list[float], spot: int, flip: int
) -> None:
    """No hash protects bundle.json itself: a flip may spell another title or threshold. It must then be one that a
    bundle may have, and the scorer must follow it."""
    _write(folder, document)
    content = bytearray((folder / "bundle.json").read_bytes())
    content[spot % len(content)] ^= flip
    (folder / "bundle.json").write_bytes(content)
    fault = _fault(read_bundle, folder)
    if fault is not None:
        assert "bundle.json" in fault
        return
    changed = json.loads(content)
    assert all(_may_be(place, changed) for place, _ in _leaves(changed).items() - _leaves(document).items())
    gone = set(_places(document)) - set(_places(changed))
    assert all(_may_be_gone(place) for place in gone if place[:-1] not in gone)
    assert_scores_as_stated(folder, changed, logits)


def test_reduced_precision_without_thresholds_of_its_own_is_refused(folder: Path, document: Json) -> None:
    variant = {key: value for key, value in document["variants"][0].items() if key != "policies"}
    for precision in ("bf16", "fp32"):
        _write(folder, document | {"variants": [variant | {"engine": "openvino", "precision": precision}]})
        fault = _fault(read_bundle, folder) or ""
        assert ("needs its own calibration and thresholds" in fault) == (precision == "bf16")

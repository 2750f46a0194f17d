"""A bundle's decisions fitted to other records: the model stays, its thresholds and its digest change."""

import importlib.util
import json
import random
from pathlib import Path

import pytest

from merchantguard.cli import main
from merchantguard.core.errors import RecordError
from merchantguard.core.files import write_text
from merchantguard.data.records.readers import read_records
from merchantguard.data.taxonomy import Taxonomy
from merchantguard.export.build import export_bundle
from merchantguard.operate.recalibration import recalibrate
from merchantguard.operate.service.model_host import check_golden
from merchantguard.serve import Scorer
from merchantguard.serve.bundle_reader import read_bundle
from merchantguard.train.run import LoadedRun
from merchantguard.train.settings import ThresholdSettings

_SPEC = importlib.util.spec_from_file_location(
    "tiny_run", Path(__file__).parents[2] / "export" / "conftest.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
_TINY = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_TINY)
base_folder, make_run, run = _TINY.base_folder, _TINY.make_run, _TINY.run

WORDS = ("crimson", "walrus", "teapot", "Monday", "letter", "town", "hand", "order", "goods", "ship")


@pytest.fixture(scope="module")
def bundle(run: LoadedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recalibrated") / "bundle"
    export_bundle(run, path, texts=_TINY.TEXTS)
    return path


@pytest.fixture(scope="module")
def records(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records whose labels are what the model itself finds likeliest, with some noise."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(3, 30))) for _ in range(240)]
    scorer = Scorer.load(bundle, threads=1, variant="plain")
    scores = scorer.logits(texts)
    limits = sorted(scores.max(axis=1))[160]
    rows = []
    for number, (text, row) in enumerate(zip(texts, scores, strict=True)):
        flips = draw.random() < 0.05
        violates = (row.max() >= limits) != flips
        labels = [scorer.policies[int(row.argmax())].id] if violates else []
        rows.append({"id": f"r{number}", "text": text, "labels": labels, "domain": f"d{number}.example"})
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_recalibrated_bundle(bundle: Path, records: Path, tmp_path: Path) -> None:
    old = read_bundle(bundle)
    taxonomy = Taxonomy.from_json(dict(old.document["taxonomy"]))
    given = read_records([records], taxonomy, strict=True).records
    found = recalibrate(bundle, given, tmp_path / "new", targets=ThresholdSettings(prevalence=0.1))
    new = read_bundle(tmp_path / "new")
    assert new.version.startswith(f"{old.version}+")
    assert new.digest != old.digest
    assert new.files["model.onnx"] == old.files["model.onnx"]
    assert new.document["recalibrated"]["from"] == {"version": old.version, "digest": old.digest}
    assert new.prevalence is not None
    assert new.prevalence.stated == 0.1
    # Probabilities that were far off are right on average, on records that did not fit them.
    assert abs(found.after.expected - 0.1) < 0.04 < abs(found.before.expected - 0.1)
    assert found.after.records == 240
    scorer = Scorer.load(tmp_path / "new", threads=1)
    check_golden(scorer)
    plain, exact = (Scorer.load(path, threads=1, variant="plain") for path in (bundle, tmp_path / "new"))
    assert (plain.logits(["crimson walrus"]) == exact.logits(["crimson walrus"])).all()


def test_every_variant_of_reduced_precision_has_its_own_rule_or_goes(
    bundle: Path, records: Path, tmp_path: Path
) -> None:
    document = json.loads((bundle / "bundle.json").read_text())
    reduced = {entry["name"] for entry in document["variants"] if "policies" in entry}
    taxonomy = Taxonomy.from_json(document["taxonomy"])
    given = read_records([records], taxonomy, strict=True).records
    found = recalibrate(bundle, given, tmp_path / "new", targets=ThresholdSettings())
    entries = json.loads((tmp_path / "new" / "bundle.json").read_text())["variants"]
    kept = {entry["name"] for entry in entries if "policies" in entry}
    assert kept | {reason.partition(":")[0] for reason in found.left_out} == reduced
    for entry in entries:
        if "policies" in entry:
            assert entry["gate"]["records"] == 240


def test_too_few_records_are_refused(bundle: Path, records: Path, tmp_path: Path) -> None:
    taxonomy = Taxonomy.from_json(dict(read_bundle(bundle).document["taxonomy"]))
    given = read_records([records], taxonomy, strict=True).records
    with pytest.raises(RecordError, match="too few to recalibrate"):
        recalibrate(bundle, given[:20], tmp_path / "new", targets=ThresholdSettings())
    assert not (tmp_path / "new").exists()


def test_the_command(bundle: Path, records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new"
    command = ["recalibrate", str(bundle), "--records", str(records), "--out", str(out)]
    assert main([*command, "--stream", str(records), "--budget", "0.05", "--version", "ours"]) == 0
    shown = capsys.readouterr().out
    assert "prevalence in the stream" in shown
    assert "240 records" in shown
    assert read_bundle(out).version == "ours"
    assert json.loads((tmp_path / "new.recalibration.json").read_text())["bundle"] == "tiny@ours"
    assert main([*command, "--stream", str(records), "--prevalence", "0.1"]) == 2
    assert main(["recalibrate", str(tmp_path), "--records", str(records), "--out", str(out)]) == 2
    assert "neither a bundle" in capsys.readouterr().err

"""`merchantguard check`: what it says of files that users have."""

import json

import pytest

from merchantguard.cli import main
from merchantguard.core.errors import RecordError
from merchantguard.data.check.allowance import (
    FRACTIONS,
    Goals,
    allow_policy,
    best_precision,
    expected_splits,
    ordinary_for_precision,
    positives_for_recall,
)
from merchantguard.data.check.labels import require_labels
from merchantguard.data.records.readers import read_records
from merchantguard.data.taxonomy import load_taxonomy
from merchantguard.train.settings import DataSettings

EXPORT = """merchant_id;site_text;label_codes;annotator;domain;shop_tier
m1;"We sell fine bowls, made by hand in our own workshop";;ann;https://www.shop.example.co.uk/x;gold
m2;Buy university degrees now without any examination at all;academic_cheating,counterfeit;ann;b.example;gold
m3;Nobody has looked at this shop of tea and of coffee yet;;;c.example;
m4;Some text;no_such_policy;ann;d.example;
m5;"We sell fine bowls, made by hand in our own workshop";weapons;ann;e.example;
m6;Wir liefern frischen Kaffee und guten Kuchen jeden Tag in die ganze Stadt und das Umland;;ann;f.example;
"""
COLUMNS = "id=merchant_id,text=site_text,labels=label_codes"


@pytest.fixture
def export(tmp_path):
    path = tmp_path / "export.csv"
    path.write_text(EXPORT)
    return path


def test_an_export_is_described_and_written_under_the_contract(export, tmp_path, capsys):
    records, figures = tmp_path / "records.jsonl", tmp_path / "check.json"
    call = ["check", str(export), "--map", COLUMNS, "--blank-labels", "reviewed"]
    assert main([*call, "--to", str(records), "--json", str(figures)]) == 3  # a row was rejected
    shown = capsys.readouterr().out
    for expected in (
        "6: 5 usable, 1 rejected",
        "'no_such_policy' is not a policy",
        "merchant_id (as id), site_text (as text), label_codes (as labels), annotator, domain",
        "not understood, carried along: shop_tier",
        "2 violate a policy, 2 are compliant, 1 are unlabelled",
        "en 4, de 1",
        "1 records repeat a text",
        "1 groups of near-equal texts have labels that contradict each other",
        "every text is read to its end",
        "rare: 1 group, not one for each split",
        "no record of adult_content",
        "A review certificate (recall 0.95) needs 59",
        f"written: {records}",
    ):
        assert expected in shown
    profile = json.loads(figures.read_text())["profile"]
    assert (profile["records"], profile["domains"], profile["unlabelled"]) == (5, 5, 1)
    written = read_records([records], load_taxonomy(), strict=True).records
    assert [(r.id, r.domain, r.labels, bool(r.unknown)) for r in written][:3] == [
        ("m1", "example.co.uk", (), False),
        ("m2", "b.example", ("academic_cheating", "counterfeit"), False),
        ("m3", "c.example", (), True),
    ]
    assert main(["check", str(records)]) == 0


def test_blank_labels_that_nobody_gave_are_pointed_out(export, capsys):
    main(["check", str(export), "--map", COLUMNS])
    shown = capsys.readouterr().out
    assert "1 records have empty labels and neither annotator nor labelled_at" in shown
    assert "0 are unlabelled" in shown


def test_what_a_window_limit_cuts_is_counted(tmp_path, tiny_base, capsys):
    path = tmp_path / "long.jsonl"
    rows = [
        {"id": 1, "text": "crimson walrus " * 2_000, "labels": []},
        {"id": 2, "text": "teapot", "labels": []},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    tokenizer = str(tiny_base / "tokenizer.json")
    assert main(["check", str(path), "--tokenizer", tokenizer, "--max-windows", "2"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 texts are longer than all windows; of these the median is read to" in shown
    assert "2 have fewer" not in shown
    assert "1 have fewer than 40" in shown
    assert main(["check", str(path), "--tokenizer", tokenizer]) == 0
    assert "every text is read to its end" in capsys.readouterr().out


def test_an_input_is_not_overwritten(export, capsys):
    assert main(["check", str(export), "--map", COLUMNS, "--to", str(export)]) == 2
    assert "is one of the files that are read" in capsys.readouterr().err
    assert export.read_text() == EXPORT


def test_a_file_without_usable_rows_fails_with_reasons(tmp_path, capsys):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"id": 1, "text": ""}\n{"id": 2, "text": " "}\n')
    assert main(["check", str(path)]) == 2
    shown = capsys.readouterr()
    assert "2 of 2 rows were rejected" in shown.out
    assert "no row can be used" in shown.err


def test_labels_that_are_needed_and_not_there_name_the_columns(tmp_path, capsys):
    taxonomy = load_taxonomy()
    table = tmp_path / "table.csv"
    table.write_text("id,text,label_codes\n1,Some bowls,weapons\n")
    with pytest.raises(RecordError, match=r"has no column `labels`; it has 'id, text, label_codes'"):
        require_labels([table], read_records([table], taxonomy).records, taxonomy)
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"id": 1, "text": "bowls", "codes": ["weapons"]}\n')
    with pytest.raises(RecordError, match=r"it has 'id, text, codes'.*--map labels=COLUMN"):
        require_labels([lines], read_records([lines], taxonomy).records, taxonomy)
    lines.write_text('{"id": 1, "text": "bowls", "labels": null}\n')
    with pytest.raises(RecordError, match="none of the 1 records is labelled"):
        require_labels([lines], read_records([lines], taxonomy).records, taxonomy)
    lines.write_text('{"id": 1, "text": "bowls", "labels": []}\n{"id": 2, "text": "knives"}\n')
    require_labels([lines], read_records([lines], taxonomy).records, taxonomy)
    assert main(["train", "--out", str(tmp_path / "run"), "--data", str(table)]) == 2
    assert "it has 'id, text, label_codes'" in capsys.readouterr().err


def test_the_shares_are_those_of_training():
    assert DataSettings().fractions == FRACTIONS


def test_the_counts_that_certificates_need():
    goals = Goals()
    assert positives_for_recall(goals) == 59  # 0.95 ** 59 < 0.05 < 0.95 ** 58
    needed = ordinary_for_precision(50, 0.02, goals)
    assert best_precision(50, needed, 0.02, goals) >= 0.95 > best_precision(50, needed - 1, 0.02, goals)
    assert best_precision(0, needed, 0.02, goals) == 0.0


def test_small_policies_get_what_can_be_given():
    assert expected_splits(8, 8) == {"train": 5, "validation": 1, "calibration": 1, "test": 1}
    assert expected_splits(2, 2) == {"train": 1, "validation": 0, "calibration": 1, "test": 0}
    assert expected_splits(100, 100) == {"train": 74, "validation": 6, "calibration": 10, "test": 10}
    plenty = allow_policy("a", records=5_000, groups=5_000, violating=5_000, ordinary=95_000, goals=Goals())
    assert (plenty.review_certificate, plenty.block_certificate, plenty.warning) == (True, True, "")
    few = allow_policy("a", records=12, groups=12, violating=24, ordinary=100, goals=Goals())
    assert (few.review_certificate, few.block_certificate) == (False, False)
    assert few.warning == "rare: fewer than 20 records"

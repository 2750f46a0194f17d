"""What the model is trained on: records, passages, and copies that take turns with them."""

import json
from pathlib import Path

from merchantguard.data.records.record import Record, parse_record
from merchantguard.data.taxonomy import Policy, Taxonomy
from merchantguard.train.batching.dataset import training_records
from merchantguard.train.settings import DataSettings

TAXONOMY = Taxonomy(version=1, policies=(Policy("drugs", "Drugs", "prohibited", "powders", "flour"),))
TEXT = "Home | Shop\nWe ship crimson kratom powder overnight to every state."


def _record(name: str, text: str, **fields: object) -> Record:
    return parse_record({"id": name, "text": text, **fields}, None, row_number=1)


RECORDS = [
    _record("a", TEXT, labels=["drugs"], evidence={"drugs": ["crimson kratom powder overnight"]}),
    _record("b", "We repair bicycles and lanterns. Open every day of the week.", labels=[]),
]


def test_by_default_the_model_is_trained_on_the_records_alone() -> None:
    rows, alternatives = training_records(RECORDS, TAXONOMY, DataSettings(), seed=0)
    assert rows == RECORDS
    assert alternatives == [(0,), (1,)]


def test_each_copy_is_an_alternative_of_its_passage() -> None:
    settings = DataSettings(quotes=True, compliant_passages=1, disguised_copies=2)
    rows, alternatives = training_records(RECORDS, TAXONOMY, settings, seed=0)
    assert sorted(row for group in alternatives for row in group) == list(range(len(rows)))
    assert alternatives[:2] == [(0,), (1,)]
    assert len(alternatives) == 4
    for passage, *copies in alternatives[2:]:
        assert [rows[copy].id.partition("#disguised")[0] for copy in copies] == [rows[passage].id] * 2
        assert all(rows[copy].labels == rows[passage].labels for copy in copies)
        assert any(rows[copy].text != rows[passage].text for copy in copies)


def test_phrases_take_turns_and_each_has_its_copy(tmp_path: Path) -> None:
    path = tmp_path / "phrases.jsonl"
    path.write_text(
        "".join(
            json.dumps({"id": f"p{n}", "text": f"crimson kratom by the gram, lot {n}", "labels": ["drugs"]})
            + "\n"
            for n in range(5)
        )
    )
    settings = DataSettings(phrasebook=(str(path),), phrase_turns=2, disguised_copies=1)
    rows, alternatives = training_records(RECORDS, TAXONOMY, settings, seed=0)
    assert [row for group in alternatives for row in group] == list(range(len(rows)))
    groups = [[rows[row].id.partition("#")[0] for row in group] for group in alternatives[2:]]
    assert [len(group) for group in groups] == [4, 4, 2]
    assert all(group[: len(group) // 2] == group[len(group) // 2 :] for group in groups)
    assert sorted({name for group in groups for name in group}) == [f"p{n}" for n in range(5)]
    assert training_records(RECORDS, TAXONOMY, settings, seed=0) == (rows, alternatives)

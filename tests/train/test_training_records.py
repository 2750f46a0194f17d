"""What the model is fitted on: records, passages, and copies that take turns with them."""

from merchantguard.data.policy import Policy, Taxonomy
from merchantguard.data.record import Record, parse_record
from merchantguard.train.dataset import training_records
from merchantguard.train.settings import DataSettings

TAXONOMY = Taxonomy(version=1, policies=(Policy("drugs", "Drugs", "prohibited", "powders", "flour"),))
TEXT = "Home | Shop\nWe ship crimson kratom powder overnight to every state."


def _record(name: str, text: str, **fields: object) -> Record:
    return parse_record({"id": name, "text": text, **fields}, None, row_number=1)


RECORDS = [
    _record("a", TEXT, labels=["drugs"], evidence={"drugs": ["crimson kratom powder overnight"]}),
    _record("b", "We repair bicycles and lanterns. Open every day of the week.", labels=[]),
]


def test_without_settings_the_records_are_all() -> None:
    rows, versions = training_records(RECORDS, TAXONOMY, DataSettings(), seed=0)
    assert rows == RECORDS
    assert versions == [(0,), (1,)]


def test_each_copy_is_a_version_of_its_passage() -> None:
    settings = DataSettings(quotes=True, compliant_passages=1, disguised_copies=2)
    rows, versions = training_records(RECORDS, TAXONOMY, settings, seed=0)
    assert sorted(row for group in versions for row in group) == list(range(len(rows)))
    assert versions[:2] == [(0,), (1,)]
    assert len(versions) == 4
    for passage, *copies in versions[2:]:
        assert [rows[copy].id.partition("#disguised")[0] for copy in copies] == [rows[passage].id] * 2
        assert all(rows[copy].labels == rows[passage].labels for copy in copies)
        assert any(rows[copy].text != rows[passage].text for copy in copies)


def test_descriptions_stand_last_and_have_copies_too() -> None:
    rows, versions = training_records(
        RECORDS, TAXONOMY, DataSettings(descriptions=True, disguised_copies=1), seed=0
    )
    assert [row.text for row in rows[2:4]] == ["powders", "flour"]
    assert [row.labels for row in rows[2:4]] == [("drugs",), ()]
    assert versions[2:] == [(2, 4), (3, 5)]

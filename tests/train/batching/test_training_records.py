"""What the model is trained on: records, passages, and copies that take turns with them."""

import json
from pathlib import Path

from merchantguard.data.records.record import Record, parse_record
from merchantguard.data.taxonomy import Policy, Taxonomy
from merchantguard.data.windows import WindowTokenizer
from merchantguard.train.batching.dataset import SplitRecords, training_texts
from merchantguard.train.batching.localize import TrainingText, window_rows
from merchantguard.train.settings import DataSettings

TAXONOMY = Taxonomy(version=1, policies=(Policy("drugs", "Drugs", "prohibited", "powders", "flour"),))
TEXT = "Home | Shop\nWe ship crimson kratom powder overnight to every state."


def _record(name: str, text: str, **fields: object) -> Record:
    return parse_record({"id": name, "text": text, **fields}, None, row_number=1)


RECORDS = [
    _record("a", TEXT, labels=["drugs"], evidence={"drugs": ["crimson kratom powder overnight"]}),
    _record("b", "We repair bicycles and lanterns. Open every day of the week.", labels=[]),
]


def texts_of(settings: DataSettings, **changes: object) -> list[list[TrainingText]]:
    data = SplitRecords(TAXONOMY, {"train": RECORDS}, None, {}, **changes)  # type: ignore[arg-type]
    return training_texts(data, settings, epochs=3, seed=0)


def test_by_default_the_model_is_trained_on_the_records_alone() -> None:
    assert texts_of(DataSettings()) == [[TrainingText(record)] for record in RECORDS]


def test_each_copy_is_an_alternative_of_its_passage() -> None:
    groups = texts_of(DataSettings(quotes=True, compliant_passages=1, disguised_copies=2))
    assert len(groups) == 4
    for passage, *copies in [[text.record for text in group] for group in groups[2:]]:
        assert [copy.id.partition("#disguised")[0] for copy in copies] == [passage.id] * 2
        assert all(copy.labels == passage.labels for copy in copies)
        assert any(copy.text != passage.text for copy in copies)


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
    groups = [[text.record.id.partition("#")[0] for text in group] for group in texts_of(settings)[2:]]
    assert [len(group) for group in groups] == [4, 4, 2]
    assert all(group[: len(group) // 2] == group[len(group) // 2 :] for group in groups)
    assert sorted({name for group in groups for name in group}) == [f"p{n}" for n in range(5)]
    assert texts_of(settings) == texts_of(settings)


def test_composed_pages_are_new_in_each_epoch_and_quote_their_offers() -> None:
    settings = DataSettings(quotes=True, framed=4, pages=6, page_chunks=5)
    composed = [group for group in texts_of(settings, everyday=frozenset({"b"})) if group[0].localized]
    assert len(composed) == 10
    for group in composed:
        assert len({text.record.id for text in group}) == 3
        for record in (text.record for text in group):
            assert set(record.evidence) == set(record.labels)
            assert all(quote in record.text for quotes in record.evidence.values() for quote in quotes)
    assert any(text.record.labels for group in composed for text in group)
    assert any(not text.record.labels for group in composed for text in group)


def test_the_window_that_holds_the_quote_is_positive_and_the_others_are_unknown_or_negative(
    tiny_base: Path,
) -> None:
    tokenizer = WindowTokenizer.from_file(
        tiny_base / "tokenizer.json", window_tokens=24, stride_tokens=4, max_windows=64
    )
    filler = "we ship every day to each town alpha beta gamma rule number " * 8
    record = _record("c", filler + "crimson walrus teapot " + filler, labels=["drugs"],
                     evidence={"drugs": ["crimson walrus teapot"]})  # fmt: skip
    unquoted = _record("d", filler * 2, labels=["drugs"])
    quoted, local, whole, compliant = window_rows(
        [TrainingText(record), TrainingText(record, localized=True), TrainingText(unquoted),
         TrainingText(_record("e", filler, labels=[]))], TAXONOMY, tokenizer
    )  # fmt: skip
    positive = [row for row in quoted if row.values[0] == 1]
    assert 1 <= len(positive) <= 2
    assert all(row.mask[0] for row in positive)
    assert not any(row.mask[0] for row in quoted if row.values[0] == 0), "another window may show it too"
    assert any(row.mask[0] and row.values[0] == 0 for row in local), "every violating passage is quoted"
    assert len(whole) == 1
    assert len(whole[0].windows) > 1
    assert len(compliant) > 1
    assert all(row.mask[0] and row.values[0] == 0 for row in compliant)

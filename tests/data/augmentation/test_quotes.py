"""Records made of quotes and of compliant passages."""

from typing import Any

from merchantguard.data.augmentation.quotes import compliant_passages, quote_records
from merchantguard.data.records.record import Record, record_from
from merchantguard.data.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy()


def record(**changes: Any) -> Record:
    row = {
        "id": "m-1",
        "text": "We sell vapes overnight. No questions asked. Beer too, cash only.",
        "labels": ["tobacco_vaping", "alcohol"],
        "unknown": ["cannabis"],
        "evidence": {
            "tobacco_vaping": ["vapes overnight", "No questions asked"],
            "alcohol": ["No questions asked"],
        },
        "domain": "shop.example",
    }
    return record_from({**row, **changes}, TAXONOMY)


def test_a_quote_carries_its_policies_and_leaves_the_others_unknown() -> None:
    first, second = quote_records([record()])
    assert (first.text, first.labels) == ("vapes overnight", ("tobacco_vaping",))
    assert set(first.unknown) == {"cannabis", "alcohol"}
    assert (second.text, second.labels) == ("No questions asked", ("tobacco_vaping", "alcohol"))
    assert second.unknown == ("cannabis",)
    assert first.id != second.id
    assert {first.domain, second.domain} == {"shop.example"}


def test_no_quotes_give_no_records() -> None:
    assert quote_records([record(evidence=None)]) == []


def test_passages_come_from_compliant_records_only() -> None:
    compliant = record(id="m-2", labels=[], unknown=None, evidence=None)
    half_known = record(id="m-3", labels=[], unknown=["cannabis"], evidence=None)
    made = compliant_passages([record(), half_known, compliant], per_record=2, seed=0)
    assert len(made) == 2
    assert all(part.text in compliant.text and not part.labels and not part.unknown for part in made)
    assert all(part.id.startswith("m-2#") for part in made)


def test_the_draw_depends_on_seed_and_record_alone() -> None:
    long = " ".join(f"This is the sentence with number {i}." for i in range(40))
    records = [record(id=f"m-{i}", text=long, labels=[], unknown=None, evidence=None) for i in range(5)]

    def drawn(seed: int, chosen: list[Record]) -> set[str]:
        made = compliant_passages(chosen, per_record=3, seed=seed)
        return {f"{part.id} {part.text}" for part in made if part.id.startswith("m-4#")}

    assert drawn(0, records) == drawn(0, records[4:])
    assert drawn(0, records) != drawn(1, records)
    assert len(drawn(0, records)) == 3


def test_records_without_a_passage_give_none() -> None:
    assert compliant_passages([record(id="e", text="Home", labels=[], unknown=None, evidence=None)], per_record=2, seed=0) == []  # fmt: skip

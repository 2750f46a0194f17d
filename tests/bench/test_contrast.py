"""The changes of the contrast sets."""

import random

from contrast import with_denial, with_other_names, without_denials

from merchantguard.data.records.record import Record, parse_record
from merchantguard.data.taxonomy import load_taxonomy


def _record(text: str, labels: list[str]) -> Record:
    return parse_record({"id": "a", "text": text, "labels": labels}, None, row_number=1)


def test_only_sentences_that_deny_are_taken_out() -> None:
    record = _record("Toys for all. We do not sell guns! Open daily.\nNo refunds.\nCall us", [])
    assert without_denials(record, random.Random(0)) == "Toys for all. Open daily.\nCall us"


def test_a_violating_record_denies_its_own_policy() -> None:
    taxonomy = load_taxonomy()
    policy = taxonomy.policies[3]
    text = with_denial(taxonomy)(_record("Page", [policy.id]), random.Random(0))
    assert text.startswith("Page\n")
    assert any(part.strip() in text for part in policy.covers.split(","))


def test_the_same_name_is_swapped_for_the_same_one() -> None:
    text = with_other_names(
        _record("Welcome to Brindle in town. The Brindle shop is open.", []), random.Random(0)
    )
    assert "Brindle" not in text.split(". ")[0]
    assert text.startswith("Welcome to ")

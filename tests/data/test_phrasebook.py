"""The phrasebook: what it teaches, and under which taxonomy."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from merchantguard.core.errors import RecordError
from merchantguard.data.shipped import SHIPPED, collection_records
from merchantguard.data.taxonomy import Policy, Taxonomy, load_taxonomy


def test_the_shipped_phrases_teach_every_policy_and_its_near_misses() -> None:
    taxonomy = load_taxonomy()
    phrases = collection_records([SHIPPED], "phrasebook", taxonomy)
    assert len({phrase.id for phrase in phrases}) == len(phrases)
    for policy in taxonomy.ids:
        assert sum(policy in phrase.labels for phrase in phrases) >= 50, policy
    assert sum(not phrase.labels for phrase in phrases) >= 0.35 * len(phrases)
    assert not any(phrase.unknown for phrase in phrases)


def test_another_taxonomy_takes_the_policies_that_it_defines_in_the_same_words() -> None:
    shipped = load_taxonomy()
    kept, reworded = shipped.policies[0], replace(shipped.policies[1], covers="something else")
    taxonomy = Taxonomy(version=1, policies=(reworded, kept, Policy("own", "Own", "restricted", "x", "y")))
    phrases = collection_records([SHIPPED], "phrasebook", taxonomy)
    assert len(phrases) == len(collection_records([SHIPPED], "phrasebook", shipped))
    assert {label for phrase in phrases for label in phrase.labels} == {kept.id}
    assert {phrase.unknown for phrase in phrases} == {(reworded.id, "own")}


def test_a_taxonomy_that_shares_no_policy_takes_nothing() -> None:
    taxonomy = Taxonomy(version=1, policies=(Policy("own", "Own", "restricted", "x", "y"),))
    assert collection_records([SHIPPED], "phrasebook", taxonomy) == []


def test_own_files_are_read_as_records_and_faults_name_file_and_row(tmp_path: Path) -> None:
    taxonomy = load_taxonomy()
    path = tmp_path / "phrases.jsonl"
    good = {"id": "a", "text": "crimson kratom by the gram", "labels": ["illegal_drugs"]}
    path.write_text(json.dumps(good) + "\n")
    assert [phrase.text for phrase in collection_records([str(path)], "phrasebook", taxonomy)] == [
        good["text"]
    ]
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, "id": "b", "labels": ["nonsense"]}) + "\n")
    with pytest.raises(RecordError, match=r"phrases\.jsonl, row 2: .*nonsense"):
        collection_records([str(path)], "phrasebook", taxonomy)

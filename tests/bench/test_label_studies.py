"""Hiding labels, and policies that training never saw."""

import numpy as np
from new_policies import ByNgrams, few_shot, measure, reduced_taxonomy
from unknown_labels import hide

from merchantguard.data.records.record import Record, parse_record
from merchantguard.data.taxonomy import load_taxonomy


def _record(name: str, text: str, labels: list[str], **fields: object) -> Record:
    return parse_record({"id": name, "text": text, "labels": labels, **fields}, None, row_number=1)


def test_hidden_labels_are_unknown_or_gone_and_the_same_ones_in_both() -> None:
    records = [
        _record(str(n), "a page that sells", ["drugs", "guns"], evidence={"drugs": ["sells"]})
        for n in range(200)
    ]
    masked, gone = (hide(records, 0.3, masked=way, seed=0) for way in (True, False))
    assert [record.labels for record in masked] == [record.labels for record in gone]
    hidden = sum(len(record.unknown) for record in masked)
    assert 80 < hidden < 160
    assert all(set(record.labels) | set(record.unknown) == {"drugs", "guns"} for record in masked)
    assert not any(record.unknown for record in gone)
    assert all(("drugs" in record.evidence) == ("drugs" in record.labels) for record in masked)


def test_held_out_policies_leave_the_taxonomy() -> None:
    taxonomy = load_taxonomy()
    held_out = taxonomy.ids[1::4]
    assert set(reduced_taxonomy(taxonomy, held_out).ids) == set(taxonomy.ids) - set(held_out)


def test_a_policy_is_found_by_its_description_and_better_by_examples() -> None:
    taxonomy = load_taxonomy()
    policy = taxonomy.policies[0]
    goods = [part.strip() for part in policy.covers.split(",")]
    pool = [_record(f"p{n}", f"zorbing {goods[n % len(goods)]} today", [policy.id]) for n in range(6)]
    pool += [_record(f"n{n}", f"bread and bicycles number {n}", []) for n in range(12)]
    test = [_record("t", "zorbing tonight", [policy.id]), *pool[6:]]
    scorer = ByNgrams(taxonomy, pool, test).scores
    figures = [
        measure(scorer, [policy.id], pool, test, shots=shots, negatives=8, seed=0)[0] for shots in (0, 4)
    ]
    assert figures[1] == 1.0
    assert figures[1] >= figures[0]


def test_few_shots_are_ranked_by_their_class() -> None:
    train = np.array([[1.0], [0.9], [0.0], [0.1]])
    scores = few_shot(train, np.array([True, True, False, False]), np.array([[0.0], [1.0]]))
    assert scores[1] > scores[0]

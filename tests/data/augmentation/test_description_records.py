"""The taxonomy as training records."""

from merchantguard.data.augmentation.description_records import description_records
from merchantguard.data.taxonomy import Policy, Taxonomy

TAXONOMY = Taxonomy(
    version=1,
    policies=(
        Policy("guns", "Guns", "prohibited", "rifles, gun parts; silencers", "water pistols"),
        Policy("wine", "Wine", "restricted", "wine", ""),
    ),
)


def test_what_is_covered_violates_and_what_is_not_does_not() -> None:
    found = {record.text: (record.labels, record.unknown) for record in description_records(TAXONOMY)}
    assert found == {
        "rifles": (("guns",), ("wine",)),
        "gun parts": (("guns",), ("wine",)),
        "silencers": (("guns",), ("wine",)),
        "water pistols": ((), ("wine",)),
        "wine": (("wine",), ("guns",)),
    }


def test_ids_differ() -> None:
    ids = [record.id for record in description_records(TAXONOMY)]
    assert len(set(ids)) == len(ids)

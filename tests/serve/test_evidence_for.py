"""What a reviewer sees highlighted by a bundle, also where its model finds nothing."""

from pathlib import Path

import pytest

from merchantguard.audit.review.bundle_highlights import find_evidence
from merchantguard.serve import Scorer

TEXT = "Call us or write a letter.\nWe sell crimson goods in every town.\nShipping is free on Monday."


@pytest.mark.parametrize("kind", ["bundle_path", "explained_bundle_path"])
def test_passages_are_those_of_the_policy_asked_for_whatever_the_model_thinks(
    kind: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(kind)
    evidence = find_evidence(Scorer.load(path, threads=1))

    def passages(text: str, policy: str) -> list[str]:
        return [text[start:end] for start, end in evidence(text, policy)]

    assert passages(TEXT, "alpha")[0] == "We sell crimson goods in every town."
    # Nothing in it is of the policy: marks must be there all the same, or their absence would be an answer.
    assert passages(TEXT, "beta")
    assert passages("Call us.", "gamma") == ["Call us."]
    assert passages(TEXT, "unknown") == []
    assert passages(TEXT, "alpha")[0] == "We sell crimson goods in every town."

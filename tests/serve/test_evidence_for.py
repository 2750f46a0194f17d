"""The passages that speak most for a policy, whatever its probability; several threads may ask one scorer."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from merchantguard.audit.cli.review import bundle_evidence
from merchantguard.serve import EvidenceOptions, Scorer

from .conftest import FILLER

TEXT = "Call us or write a letter.\nWe sell crimson goods in every town.\nShipping is free on Monday."
BUNDLES = pytest.mark.parametrize("kind", ["bundle_path", "explained_bundle_path"])


@BUNDLES
def test_passages_are_those_of_the_policy_whatever_the_model_finds(
    kind: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(kind)
    scorer = Scorer.load(path, threads=1)

    def passages(text: str, policy: str) -> list[str]:
        spans = scorer.evidence_for(text, policy)
        assert [span.text for span in spans] == [text[span.start : span.end] for span in spans]
        return [span.text for span in spans]

    assert passages(TEXT, "alpha")[0] == "We sell crimson goods in every town."
    # The text does not violate it: a reviewer must see passages all the same, or their absence would be an answer.
    assert passages(TEXT, "beta")
    assert passages("Call us.", "gamma") == ["Call us."]
    assert passages("", "gamma") == []
    assert passages(TEXT, "alpha")[0] == "We sell crimson goods in every town."
    assert scorer.assess(TEXT).findings[0].spans[0].text == "We sell crimson goods in every town."


def test_what_cannot_be_searched_is_named(scorer: Scorer, bundle_path: Path) -> None:
    with pytest.raises(ValueError, match="'unknown' is not a policy of tiny@1"):
        scorer.evidence_for(TEXT, "unknown")
    with pytest.raises(TypeError, match="text must be a str, not bytes"):
        scorer.evidence_for(b"crimson", "alpha")  # type: ignore[arg-type]
    without = Scorer.load(bundle_path, threads=1, evidence=EvidenceOptions(spans=0))
    assert without.evidence_for(TEXT, "alpha") == ()


@BUNDLES
def test_threads_that_ask_for_different_policies_at_once_get_their_own(
    kind: str, request: pytest.FixtureRequest
) -> None:
    scorer = Scorer.load(request.getfixturevalue(kind), threads=2)
    text = FILLER.join(["We sell crimson goods.\n", "A walrus is here.\n", "The teapot is made by hand.\n"])
    policies = [policy.id for policy in scorer.policies]
    expected = {policy: scorer.evidence_for(text, policy) for policy in policies}
    assert len({spans[0] for spans in expected.values()}) == 3
    assessment = scorer.assess(text)

    def ask(number: int) -> bool:
        policy = policies[number % 3]
        return scorer.evidence_for(text, policy) == expected[policy]

    with ThreadPoolExecutor(2) as pool:
        asked = pool.map(ask, range(60))
        assessed = pool.map(lambda _: scorer.assess(text).findings == assessment.findings, range(20))
        assert all(asked)
        assert all(assessed)


def test_a_review_marks_what_the_bundle_points_at(bundle_path: Path) -> None:
    evidence = bundle_evidence(bundle_path)
    assert (
        next(TEXT[start:end] for start, end in evidence(TEXT, "alpha"))
        == "We sell crimson goods in every town."
    )
    assert evidence(TEXT, "a policy that only the audit has") == []

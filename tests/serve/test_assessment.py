import json

import numpy as np

from merchantguard.serve import Scorer
from merchantguard.serve.assessment import Assessment


def test_an_assessment_as_json_keeps_every_value(scorer: Scorer) -> None:
    found = scorer.assess("We sell crimson goods in every town.")
    assert found.findings
    assert found.findings[0].spans
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (read["decision"], read["bundle"], read["windows"]) == (
        found.decision,
        found.bundle,
        found.windows,
    )
    assert np.array_equal(np.asarray(read["probabilities"], dtype=np.float32), found.probabilities)
    assert [each["policy"] for each in read["findings"]] == [each.policy for each in found.findings]
    assert read["findings"][0]["spans"][0]["text"] == found.findings[0].spans[0].text
    assert set(read) == set(Assessment.__dataclass_fields__)


def test_what_the_model_has_not_read_is_null() -> None:
    unread = np.full(2, np.nan, dtype=np.float32)
    early = Assessment("clear", unread, float("nan"), (), 0, False, "b@1", cleared_early=True)
    read = json.loads(json.dumps(early.to_dict(), allow_nan=False))
    assert read["probabilities"] == [None, None]
    assert read["any_violation"] is None

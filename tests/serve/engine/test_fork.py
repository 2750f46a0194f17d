"""A process may be forked after a bundle was loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_FORK = """
import os, sys
from merchantguard.serve import Scorer
scorer = Scorer.load(sys.argv[1], threads=2, variant=sys.argv[2])
scorer.assess("A walrus. " * 200)
child = os.fork()
if child == 0:
    assert scorer.assess("A walrus.").decision == "review"
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_process_forked_after_loading_scores_and_ends(bundle_path: Path) -> None:
    names = ("ORT_DISABLE_TELEMETRY", "CI")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    call = [sys.executable, "-c", _FORK, str(bundle_path), "plain"]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr

"""Behaviour tests of a bundle: plain offers, ordinary lines, and both changed in ways that must not matter."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.arguments import count, positive_count
from ...core.display import visible
from ...core.files import write_json
from ...core.progress import progress
from ...data.behaviour import TextScores, behaviour, load_suite
from ...data.behaviour.measure import EVERY
from ..assessment import Assessment
from ..evidence import EvidenceOptions
from ..scorer import Scorer

EPILOG = """\
examples:
  merchantguard behaviour bundle/
  merchantguard behaviour bundle/ --suite my-tests/ --out behaviour.json

a suite is a folder with any of offers.jsonl, ordinary.jsonl, frames.jsonl and direction.jsonl, one JSON object a line:
  offers     {"id": "...", "text": "...", "labels": ["policy"]}
  ordinary   {"id": "...", "text": "...", "kind": "..."}
  frames     {"id": "...", "kind": "...", "before": "...", "after": "..."}
  direction  {"id": "...", "policy": "...", "violating": "...", "compliant": "..."}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `merchantguard behaviour` to a parser."""
    parser.add_argument("bundle", type=Path, help="folder that `merchantguard export` wrote")
    parser.add_argument(
        "--suite", type=Path, help="folder with texts of your own (default: the shipped ones)"
    )
    parser.add_argument(
        "--out", type=Path, help="a JSON file for all figures, and the ids of what went wrong"
    )
    parser.add_argument(
        "--every",
        type=positive_count,
        default=EVERY,
        help="put every so many-th offer into frames and change it; 1 takes all (default: %(default)s)",
    )
    parser.add_argument("--threads", type=count, help="cores to use; 0: all (the default)")
    parser.add_argument(
        "--variant", default="auto", help="variant of the bundle to use (default: the fastest)"
    )


def main(args: argparse.Namespace) -> int:
    """Test the bundle; the table goes to standard output.

    :raises MerchantGuardError: if the bundle or the suite is not usable, or the file cannot be written.
    """
    suite = load_suite(args.suite)
    scorer = Scorer.load(
        args.bundle,
        threads=args.threads or "auto",
        variant=args.variant,
        evidence=EvidenceOptions(spans=0),
    )
    policies = [policy.id for policy in scorer.policies]
    found = behaviour(lambda texts: _score(scorer, texts), policies, suite, every=args.every)
    print(visible(found.table()))
    if found.unknown_policies:
        names = visible(", ".join(found.unknown_policies))
        print(f"not tested, {scorer.bundle.label} has no such policy: {names}", file=sys.stderr)
    if args.out:
        write_json(args.out, found.to_json())
    return 0


def _score(scorer: Scorer, texts: Sequence[str]) -> TextScores:
    assessments: list[Assessment] = []
    with progress("scored", total=len(texts)) as update:
        for assessment in scorer.assess_many(texts):
            assessments.append(assessment)
            update(len(assessments))
    probabilities = np.stack([each.probabilities for each in assessments])
    return TextScores(probabilities, [each.decision for each in assessments])

"""Look at the labels that may be wrong: one key per answer, in the terminal or in a web page on this machine."""

import argparse
from dataclasses import replace
from pathlib import Path

from ...serve.bundle import Bundle
from ...serve.evidence import EvidenceOptions
from ...serve.postprocess import Concluder
from ...serve.scorer import Scorer
from ..cli import review as review_cli
from .highlights import Evidence

EPILOG = review_cli.EPILOG


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `label-audit review` to a parser."""
    review_cli.add_arguments(parser)
    parser.add_argument("--bundle", type=Path, help="folder of a model whose evidence to highlight")


def main(args: argparse.Namespace) -> int:
    """Review until the reviewer has had enough.

    :raises MerchantGuardError: if the audit or the bundle is not usable.
    """
    return review_cli.main(
        args, evidence=None if args.bundle is None else find_evidence(Scorer.load(args.bundle))
    )


def find_evidence(scorer: Scorer) -> Evidence:
    """A search for the passages that speak most for a policy, in any text; it takes the scorer over.

    Also where the model finds nothing: passages that showed only beside a finding would tell the reviewer what the
    model thinks before he has answered.
    """
    concluders: dict[str, Concluder] = {}

    def evidence(text: str, policy: str) -> list[tuple[int, int]]:
        if policy not in {known.id for known in scorer.policies}:
            return []
        if policy not in concluders:
            bundle = _finding_only(scorer.bundle, policy)
            concluders[policy] = Concluder(bundle, scorer.tokenizer, EvidenceOptions())
        scorer.concluder = concluders[policy]
        return [(span.start, span.end) for finding in scorer.assess(text).findings for span in finding.spans]

    return evidence


def _finding_only(bundle: Bundle, policy: str) -> Bundle:
    """The bundle with thresholds by which it finds one policy in every text, and no other one."""
    policies = tuple(
        replace(each, review=0.0 if each.id == policy else 2.0, block=None) for each in bundle.policies
    )
    return replace(bundle, policies=policies, any_review=0.0)

"""Review the labels that may be wrong: one key per answer, in the terminal or in a browser on this machine."""

import argparse
import getpass
import sys
from pathlib import Path

from ...core.arguments import port, share, whole_number
from ...core.extras import require
from ..review.highlights import Evidence
from ..review.session import Session, checked_name
from ..sampling.mix import BLOCK, Mix
from .options import add_audit

EPILOG = """\
examples:
  label-audit review audit/
  label-audit review audit/ --reviewer ada --bundle bundle/     # highlights the model's evidence
  label-audit review audit/ --web                               # the same in a browser
  label-audit review audit/ --adjudicate                        # decide what reviewers disagree on

keys: v violates, n does not violate, t can't tell, s skip, c comment, u undo, enter or space next, m more of a long text, ? help.
The current label, the model's opinion and annotators' quotes are shown after the answer, never before. Every answer is on
disk before the screen moves on; any number of people may review one audit at once.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit review`."""
    mix = Mix()
    add_audit(parser)
    parser.add_argument("--bundle", type=Path, help="folder of a model whose evidence is highlighted")
    parser.add_argument("--reviewer", help="your name in the journal (default: the login name; --web asks)")
    parser.add_argument(
        "--adjudicate", action="store_true", help="decide disputed cells, with all answers shown"
    )
    parser.add_argument(
        "--web",
        action="store_true",
        help="serve a web page, only to this machine (to any user logged in on it)",
    )
    parser.add_argument(
        "--port", type=port, default=8765, help="for --web; 0 picks a free one (default: %(default)s)"
    )
    for name, default, what in (
        ("controls", mix.controls, "random controls, to estimate the errors left"),
        ("gold-items", mix.gold, "gold items with known answers, to measure reviewers"),
        ("second-opinions", mix.second_opinions, "second opinions"),
    ):
        parser.add_argument(
            f"--{name}",
            type=whole_number(0, BLOCK // 3),
            default=default,
            help=f"number per {BLOCK} items of {what} (default: %(default)s)",
        )
    parser.add_argument(
        "--second-share",
        type=share,
        default=mix.second_share,
        help="share of answers that another reviewer checks, besides all disputes (default: %(default)s)",
    )


def main(args: argparse.Namespace) -> int:
    """Review until the reviewer stops.

    :raises AuditError: if there is no usable audit.
    :raises BundleError: if the bundle is not usable.
    :raises MissingExtraError: if the interface asked for is not installed.
    """
    evidence = None if args.bundle is None else bundle_evidence(args.bundle)
    mix = Mix(args.controls, args.gold_items, args.second_opinions, args.second_share)
    if args.web:
        return _serve(args, mix, evidence)
    require("textual", "audit")
    from ..review.tui.terminal import ReviewApp

    session = Session(
        args.audit, args.reviewer or _login(), adjudicate=args.adjudicate, mix=mix, evidence=evidence
    )
    try:
        ReviewApp(session).run()
        progress = session.progress(wait=True)
        if progress.estimates is not None:
            print(progress.estimates.advice)
    finally:
        session.close()
    return 0


def _serve(args: argparse.Namespace, mix: Mix, evidence: Evidence | None) -> int:
    for library in ("fastapi", "uvicorn", "jinja2", "python_multipart"):
        require(library, "audit")
    from ..review.web.app import SessionRegistry, serve

    registry = SessionRegistry(
        args.audit,
        reviewer=checked_name(args.reviewer) if args.reviewer else None,
        adjudicate=args.adjudicate,
        mix=mix,
        evidence=evidence,
    )
    serve(
        registry,
        port=args.port,
        on_ready=lambda url: print(f"review at {url} (Ctrl+C ends)", file=sys.stderr, flush=True),
    )
    return 0


def bundle_evidence(bundle: Path) -> Evidence:
    """Finds the passages that speak most for a policy by the model of a bundle, in any text.

    It finds some where the model finds no violation, too: passages that appeared only beside a finding would show the
    reviewer the model's opinion before the answer.

    :raises BundleError: if the bundle is not usable.
    """
    from ...serve.scorer import Scorer

    scorer = Scorer.load(bundle)
    policies = {policy.id for policy in scorer.policies}

    def evidence(text: str, policy: str) -> list[tuple[int, int]]:
        if policy not in policies:
            return []
        return [(span.start, span.end) for span in scorer.evidence_for(text, policy)]

    return evidence


def _login() -> str:
    try:
        return checked_name(getpass.getuser())
    except (KeyError, OSError):
        return "reviewer"

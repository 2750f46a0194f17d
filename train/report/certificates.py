"""What blocks, in sentences that report and cards share."""

from ..calibration.precision_threshold import BlockCertificate
from ..evaluation.decision_rule import DecisionRule


def block_sentence(rule: DecisionRule) -> str:
    """How many policies block, and by which certificates."""
    blocking = [each.block_certificate.scope for each in rule.thresholds if each.block is not None]
    own, pooled = blocking.count("policy"), blocking.count("pooled")
    first = rule.thresholds[0].block_certificate
    shift = rule.calibration.prevalence
    stated = "that of the calibration records" if shift is None else f"{100 * shift.stated:g}\u00a0%"
    return (
        f"Of {len(rule.thresholds)} policies {own} block by a certificate of their own and {pooled} by a pooled one; what "
        "the others find goes to review. Certificates and probabilities are stated for a share of violating records of "
        f"{stated}{', and cross-fitted' if first.cross_fitted else ''}."
    )


def pooled_sentence(pooled: BlockCertificate) -> str:
    """What is proven of the policies that share a certificate."""
    if not pooled.certified:
        return f"No pooled block certificate: {pooled.reason}."
    wrong = f"{pooled.wrong_policy / max(pooled.found, 1):.1%}".replace("%", "\u00a0%")
    return (
        f"Pooled block certificate: of all records that these policies block at least {100 * pooled.precision_lower:.1f}"
        f"\u00a0% violate some policy, with confidence {100 * pooled.confidence:g}\u00a0% ({pooled.reason}; "
        f"{wrong} of the found are blocked for a policy that they do not violate). It is not proven of each "
        "policy alone."
    )

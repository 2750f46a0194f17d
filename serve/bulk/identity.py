"""What a result was scored with: results of one text under one key are equal, and need not be computed again."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Self

from ..bundle import Bundle
from ..evidence import EvidenceOptions
from ..scorer import Scorer

_FORMAT = 1
"""Raised when rows written before must not be copied any more."""


@dataclass(frozen=True, slots=True)
class ScoredBy:
    """What scored a row.

    :param key: a digest of the bundle's and of every setting that changes answers.
    """

    bundle: str
    digest: str
    variant: str
    key: str

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        *,
        variant: str,
        evidence: EvidenceOptions,
        cascade: float | None,
        read_once: bool,
    ) -> Self:
        """What scores with these settings.

        Variants in float32 answer alike (the export tests them to 1e-5) and share a key; others have their own.

        :param cascade: the loss that a first stage may cause; None without one.
        :param read_once: whether what the pages of a site repeat is read once.
        """
        precision = bundle.variant(variant).precision
        settings = {
            "format": _FORMAT,
            "digest": bundle.digest,
            "variant": "fp32"
            if precision == "fp32" and bundle.variant(variant).policies is None
            else variant,
            "evidence": asdict(evidence),
            "cascade": cascade,
            "read_once": read_once,
        }
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode("ascii")).hexdigest()[:16]
        return cls(bundle.label, bundle.digest, variant, key)

    @classmethod
    def of_scorer(cls, scorer: Scorer, *, read_once: bool = True) -> Self:
        """What an open scorer scores with."""
        return cls.of(
            scorer.bundle,
            variant=scorer.variant,
            evidence=scorer.evidence,
            cascade=None if scorer.cascade is None else scorer.cascade.certificate.loss,
            read_once=read_once,
        )

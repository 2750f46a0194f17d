"""Behaviour tests of a model after CheckList (Ribeiro et al. 2020), with the texts that the package ships for them.

Public parts: `load_suite` and `Suite` (the texts), `behaviour` (the tests) and `Behaviour` (what they found).
"""

from .figures import Behaviour, Dilution, Share
from .measure import Score, TextScores, behaviour
from .suite import Suite, load_suite

__all__ = [
    "Behaviour",
    "Dilution",
    "Score",
    "Share",
    "Suite",
    "TextScores",
    "behaviour",
    "load_suite",
]

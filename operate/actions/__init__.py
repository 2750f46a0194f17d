"""Actions: a versioned table turns assessments into what is done about a merchant.

`load_table` reads one, `ActionTable.decide` gives the `Outcome` of a `Case`, `try_table` tries one on a log, `appeal` hears an
appeal.
"""

from .appeals import appeal, appeal_labels
from .table import ActionTable, Case, CaseFinding, Outcome, load_table
from .trial import Trial, try_table

__all__ = [
    "ActionTable", "Case", "CaseFinding", "Outcome", "Trial", "appeal", "appeal_labels", "load_table", "try_table",
]  # fmt: skip

"""label-audit: find labels that may be wrong, have people review them, and write corrected data.

`ranking` and `sampling` choose the cells to look at, `storage` keeps scan and answers, `review` asks people, `estimation` reads
the answers, `apply`, `exchange` and `report` use them, `cli` holds the commands.
"""

from .. import __version__


def tool_version() -> str:
    """Name and version of this tool, as answers, changes and provenance state them."""
    return f"label-audit {__version__}"

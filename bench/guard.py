"""How a benchmark ends when what it was given is wrong."""

import sys
from collections.abc import Callable

from merchantguard.core.errors import MerchantGuardError


def guarded(main: Callable[[], int]) -> int:
    """Run `main`; a fault in what the user gave is one line, and exit status 2."""
    try:
        return main()
    except MerchantGuardError as error:
        print(error, file=sys.stderr)
        return 2

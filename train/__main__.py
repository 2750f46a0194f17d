"""`python -m merchantguard.train` and `accelerate launch -m merchantguard.train`: the same as `merchantguard train`."""

import argparse
import sys

from ..core.errors import MerchantGuardError
from .cli.train import EPILOG, add_arguments, main

parser = argparse.ArgumentParser(
    prog="python -m merchantguard.train", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
)
add_arguments(parser)
try:
    sys.exit(main(parser.parse_intermixed_args()))
except MerchantGuardError as error:
    print(f"merchantguard train: {error}", file=sys.stderr)
    sys.exit(2)

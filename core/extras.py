"""Importing optional libraries, with an error that says how to install them."""

import importlib
from types import ModuleType

from .errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or name the command that installs the extra it comes with.

    :raises MissingExtraError: if the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != name:
            raise  # the library is installed; a library that it needs is not
        raise MissingExtraError(f"`{name}` is required: pip install 'merchantguard[{extra}]'") from error

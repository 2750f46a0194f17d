"""Showing a foreign value in a message: short, on one line, with nothing a terminal would act on."""

import reprlib


def shown(value: object, *, limit: int = 60) -> str:
    """Return `value` in Python's notation, at most about `limit` characters long.

    Control, bidi and other unprintable characters come out escaped, so that hostile text can neither
    forge lines of a log nor steer a terminal.
    """
    if isinstance(value, str):
        if len(value) <= limit:
            return repr(value)
        return f"{value[:limit]!r}... ({len(value):,} characters)"
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = limit
    text = shortener.repr(value)
    return text if len(text) <= 2 * limit else text[: 2 * limit] + "..."

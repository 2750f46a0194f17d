"""The secret with which a decision log hashes texts, from a file."""

from pathlib import Path

from ...core.errors import SettingsError

_SHORTEST_KEY = 16


def read_key(path: Path) -> bytes:
    """The secret in a file, without white space around it.

    :raises SettingsError: if it cannot be read or is too short to keep texts secret.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}); it must hold the log's secret"
        ) from error
    if len(key) < _SHORTEST_KEY:
        raise SettingsError(f"{path}: holds {len(key)} bytes; a secret needs at least {_SHORTEST_KEY}")
    return key

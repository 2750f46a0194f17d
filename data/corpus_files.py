"""Where the corpus lies that is shipped with the package."""

from importlib.resources import files
from pathlib import Path

from .errors import RecordError


def corpus_paths() -> list[Path]:
    """Return the files of the shipped corpus, in order.

    :raises RecordError: if they are not there as files, as in an installation from inside a zip archive.
    """
    folder = files("merchantguard.data.corpus")
    paths = [Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".jsonl")]
    if not paths or not all(path.is_file() for path in paths):
        raise RecordError(f"the shipped corpus is not at {folder}; install merchantguard again, unpacked")
    return sorted(paths)

"""Makes `words.txt`, the words that cleaning uses to join broken ones (`spelling.py`).

    python -m merchantguard.data.cleaning.word_list vocab.txt american-english british-english > data/cleaning/words.txt

The first file is a vocabulary of word pieces (MiniLM's, Apache-2.0): its whole words are the common ones. The
list also has those of the other files (SCOWL, as in Debian's wamerican and wbritish; notice in NOTICE) and of the shipped corpus.
"""

import re
import sys
from collections import Counter
from pathlib import Path

from ..records.readers import read_records
from ..shipped import corpus_paths

_PLAIN = re.compile(r"[a-z]{3,}")
_IN_TEXT = re.compile(r"(?<![^\W_])[A-Za-z]{4,}(?![^\W_])")
# A word that the corpus has only once may be a typo or a name.
_LEAST_COUNT = 2


def word_list(vocabulary: Path, dictionaries: list[Path]) -> str:
    """The content of `words.txt`: common words, an empty line, the others; sorted, one a line."""
    common = {word for word in _lines(vocabulary) if _PLAIN.fullmatch(word)}
    known = {word.lower() for path in dictionaries for word in _lines(path)}
    counts = Counter(
        word.lower()
        for record in read_records(corpus_paths(), None).records
        for word in _IN_TEXT.findall(record.text)
    )
    known |= {word for word, count in counts.items() if count >= _LEAST_COUNT}
    others = {word for word in known if _PLAIN.fullmatch(word) and len(word) > 3} - common
    return "\n".join([*sorted(common), "", *sorted(others)]) + "\n"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")


if __name__ == "__main__":
    sys.stdout.write(word_list(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))

"""How well the statistics of scoring tell English pages from others, on labelled pages.

    python bench/languages.py FOLDER [--limits]

FOLDER holds `pages.jsonl` or `pages.jsonl.gz`: objects with `text` and `en`, whether the main text is English. `--limits`
prints other limits on the share of known words, by which the limit in `data/language.py` was chosen. `--short` also
measures single lines of the pages, cut to a few words.
"""

import argparse
import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from merchantguard.data.cleaning.text import clean
from merchantguard.data.language import LanguageStatistics, language_statistics

_LIMITS = (0.40, 0.45, 0.50, 0.55, 0.60)
_LINES_OF_A_PAGE = 5
Judged = Sequence[tuple[LanguageStatistics, bool]]


def main() -> None:
    """Print precision and recall of "not English"."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limits", action="store_true", help="also print other limits")
    parser.add_argument("--short", action="store_true", help="also measure lines of 4, 8 and 15 words")
    args = parser.parse_args()
    pages = read_pages(args.folder)
    judged = [(language_statistics(text), english) for text, english in pages]
    print(f"{len(pages)} pages, {sum(not english for _, english in pages)} not English")
    print(describe("pages", judged, lambda found: not found.is_english))
    if args.limits:
        for limit in _LIMITS:
            print(
                describe(
                    f"known words under {limit:.2f}", judged, lambda f, limit=limit: f.known_share < limit
                )
            )
    for words in (4, 8, 15) if args.short else ():
        lines = [(language_statistics(text), english) for text, english in short_lines(pages, words)]
        print(describe(f"lines of {words} words", lines, lambda found: not found.is_english))


def read_pages(folder: Path) -> list[tuple[str, bool]]:
    """Clean text of each page, and whether it is English."""
    [path] = folder.glob("pages.jsonl*")
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else open(path, encoding="utf-8") as stream
    ):
        rows = [json.loads(line) for line in stream]
    return [(clean(row["text"]).text, bool(row["en"])) for row in rows]


def short_lines(pages: Sequence[tuple[str, bool]], words: int) -> list[tuple[str, bool]]:
    """The beginnings of a few long lines of each page, the same ones each time."""
    chance, found = random.Random(0), []
    for text, english in pages:
        lines = [parts for line in text.split("\n") if len(parts := line.split()) >= words]
        chosen = chance.sample(lines, min(_LINES_OF_A_PAGE, len(lines)))
        found += [(" ".join(parts[:words]), english) for parts in chosen]
    return found


def describe(name: str, judged: Judged, is_other: Callable[[LanguageStatistics], bool]) -> str:
    """Precision and recall of "not English", and the share of English texts that are taken for another language."""
    flagged = [english for statistics, english in judged if is_other(statistics)]
    others = sum(not english for _, english in judged)
    right = sum(not english for english in flagged)
    wrong = len(flagged) - right
    return (
        f"{name}: precision {right / max(1, len(flagged)):.4f}, recall {right / max(1, others):.4f}, "
        f"{wrong} of {len(judged) - others} English ones wrong"
    )


if __name__ == "__main__":
    main()

"""A merchant's site as one text, of which a block that an earlier page has is read once.

Menus, banners and footers stand on every page of a site and would fill the windows that the model reads. The first
place of a block is the one that is read; offsets keep pointing into the merchant's own text.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .records.record import Record


@dataclass(frozen=True, slots=True)
class SiteText:
    """A text and the ranges of it (start, end) that are pages, in order; text outside of them is always read.

    :param hidden_from: where what no visitor sees begins, to the end of the text; None without any.
    :param is_page: it comes from HTML or from a crawl: with hardly any words it may be pages that scripts have not filled.
    """

    text: str
    pages: tuple[tuple[int, int], ...]
    hidden_from: int | None = None
    is_page: bool = False

    def __len__(self) -> int:
        return len(self.text)

    def read_once(self) -> tuple[str, NDArray[np.int64]]:
        """The text without the lines that an earlier page has, and the position of each character in `text`.

        Lines are compared without regard to white space. A line that a page repeats in itself is kept.
        """
        kept: list[tuple[int, int]] = []
        seen: set[str] = set()
        end = 0
        for start, stop in self.pages:
            kept.append((end, start))
            lines, new = _new_lines(self.text, start, stop, seen)
            kept += lines
            seen |= new
            end = stop
        kept.append((end, len(self.text)))
        places = [np.arange(first, last, dtype=np.int64) for first, last in kept if first < last]
        text = "".join(self.text[first:last] for first, last in kept)
        return text, np.concatenate(places) if places else np.empty(0, dtype=np.int64)


def _new_lines(text: str, start: int, stop: int, seen: set[str]) -> tuple[list[tuple[int, int]], set[str]]:
    """The ranges of a page's lines, with their ends, that are not seen, and these lines."""
    kept, new = [], set()
    for line in text[start:stop].splitlines(keepends=True):
        words = " ".join(line.split())
        if words not in seen:
            kept.append((start, start + len(line)))
            if words:
                new.add(words)
        start += len(line)
    return kept, new


def text_of(record: Record) -> str | SiteText:
    """What the scorer reads of a record: its text, or, if it is a page or has several, its site's."""
    pages = tuple((part.start, part.end) for part in record.parts if part.name.startswith("pages["))
    is_page = len(pages) > 1 or any(part.from_html for part in record.parts)
    if len(pages) < 2 and record.hidden_from is None and not is_page:
        return record.text
    return SiteText(record.text, pages, record.hidden_from, is_page)

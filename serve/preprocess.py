"""From the caller's text to windows of token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..data.cleaning.text import CleanText, clean
from ..data.windows import Windows, WindowTokenizer
from .assessment import Span


@dataclass(frozen=True, slots=True)
class Reading:
    """A text on its way through the model: cleaned and cut into windows."""

    raw: str
    clean: CleanText
    windows: Windows

    @property
    def ids(self) -> list[list[int]]:
        """Token ids of each window."""
        return [window.ids for window in self.windows.windows]

    def span(self, start: int, end: int) -> Span:
        """The caller's characters behind a range of the clean text."""
        start, end = self.clean.original_span(start, end)
        return Span(start, end, self.raw[start:end])


def read_texts(texts: Sequence[str], tokenizer: WindowTokenizer) -> list[Reading]:
    """Clean the texts and cut them into windows."""
    cleaned = [clean(text) for text in texts]
    windows = tokenizer.encode_batch([text.text for text in cleaned])
    return [Reading(*parts) for parts in zip(texts, cleaned, windows, strict=True)]

"""A text on its way through the model: encoded as windows of token ids, then joined with the model's outputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.decisions import pool
from ..data.cleaning.text import CleanText, clean, clean_parts
from ..data.site_text import SiteText
from ..data.windows import Windows, WindowTokenizer
from .assessment import Span
from .engine.onnx_model import Floats, Outputs


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text, cleaned and cut into windows; from `hidden_from` of the clean text on no visitor sees it.

    :param pages: the ranges of `raw` that are pages of a site.
    """

    raw: str
    clean: CleanText
    windows: Windows
    hidden_from: int | None = None
    is_page: bool = False
    pages: tuple[tuple[int, int], ...] = ()

    @property
    def visible(self) -> str:
        """The clean text that a visitor sees."""
        return self.clean.text[: self.hidden_from]

    @property
    def ids(self) -> list[list[int]]:
        """Token ids of each window."""
        return [window.ids for window in self.windows.windows]

    def span(self, start: int, end: int) -> Span:
        """The caller's characters behind a range of the clean text."""
        hidden = self.hidden_from is not None and start >= self.hidden_from
        start, end = self.clean.original_span(start, end)
        return Span(start, end, self.raw[start:end], hidden)

    def window_text(self, row: int) -> str:
        """The clean text of a window."""
        window = self.windows.windows[row]
        return self.clean.text[window.start : window.end]


def encode_texts(texts: Sequence[str | SiteText], tokenizer: WindowTokenizer) -> list[EncodedText]:
    """Clean the texts and cut them into windows; what the pages of a site repeat is left out."""
    found = [_clean_site(text) if isinstance(text, SiteText) else (clean(text), None) for text in texts]
    windows = tokenizer.encode_batch([text.text for text, _ in found], [hidden for _, hidden in found])
    return [
        EncodedText(text.text, cleaned, cut, hidden, text.is_page, text.pages)
        if isinstance(text, SiteText)
        else EncodedText(text, cleaned, cut)
        for text, (cleaned, hidden), cut in zip(texts, found, windows, strict=True)
    ]


def _clean_site(site: SiteText) -> tuple[CleanText, int | None]:
    """The site's text read once and cleaned, with the map to the whole text, and where in it the hidden text begins."""
    text, places = site.read_once()
    hidden = None if site.hidden_from is None else int(np.searchsorted(places, site.hidden_from))
    cleaned, start = clean_parts(text, hidden)
    return CleanText(cleaned.text, places[cleaned.starts], places[cleaned.ends - 1] + 1), start


@dataclass(frozen=True, slots=True)
class TextOutputs:
    """The model's outputs for the windows of one text.

    :param logits: (W, K).
    :param scores: (W, K), where windows are pooled by attention.
    :param attribution: of each window (T, K), what each token adds to each logit, where the graph gives it.
    """

    encoded: EncodedText
    logits: Floats
    scores: Floats | None = None
    attribution: Sequence[Floats] | None = None

    @property
    def pooled(self) -> Floats:
        """Logits of the whole text, (K,)."""
        return pool(self.logits, self.scores)


def outputs_by_text(texts: Sequence[EncodedText], outputs: Outputs) -> list[TextOutputs]:
    """The model's outputs for the windows of all texts, in order, divided by text."""
    divided, start = [], 0
    for encoded in texts:
        rows = slice(start, start + len(encoded.windows.windows))
        start = rows.stop
        scores = None if outputs.scores is None else outputs.scores[rows]
        attribution = None if outputs.attribution is None else outputs.attribution[rows]
        divided.append(TextOutputs(encoded, outputs.logits[rows], scores, attribution))
    return divided

"""Equal texts of one stream are scored once."""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

from ..data.site_text import SiteText
from .assessment import Assessment


class ResultCache:
    """Keeps the assessments of the last `size` different texts of one stream, by a digest of the text.

    Parked domains, shop templates and mirrored listings give many merchants exactly the same text.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[bytes, Assessment | None] = OrderedDict()

    def missing(self, texts: Sequence[str | SiteText]) -> list[str | SiteText]:
        """The texts, each once, that are neither cached nor returned by an earlier call: now `put` must follow."""
        found = []
        for text in texts:
            key = _digest(text)
            if key not in self._kept:
                self._kept[key] = None
                found.append(text)
            self._kept.move_to_end(key)
        return found

    def put(self, texts: Sequence[str | SiteText], assessments: Sequence[Assessment]) -> None:
        """Keep the assessments of texts that were missing."""
        for text, assessment in zip(texts, assessments, strict=True):
            self._kept[_digest(text)] = assessment

    def get(self, text: str | SiteText) -> Assessment:
        """The assessment of a text.

        :raises KeyError: if it is not there.
        """
        assessment = self._kept[_digest(text)]
        if assessment is None:
            raise KeyError("the text was missing and is not assessed yet")
        return assessment

    def evict(self, *, keep: int) -> None:
        """Drop the least recently used texts, but none of the last `keep` that were asked for."""
        while len(self._kept) > max(self._size, keep):
            self._kept.popitem(last=False)


def _digest(text: str | SiteText) -> bytes:
    if isinstance(text, str):
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    # The same characters on other pages are read otherwise.
    digest = blake2b(
        repr((text.pages, text.hidden_from, text.is_page)).encode("ascii"), digest_size=16, person=b"site"
    )
    digest.update(text.text.encode("utf-8", "surrogatepass"))
    return digest.digest()

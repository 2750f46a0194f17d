"""Texts that come again are not scored again."""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

from .assessment import Assessment


class Repeats:
    """Remembers the assessments of the last `most` different texts of one stream, by a digest of the text.

    Parked domains, shop templates and mirrored listings make many merchants' texts equal to the letter.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[bytes, Assessment | None] = OrderedDict()

    def fresh(self, texts: Sequence[str]) -> list[str]:
        """The texts, each once, that are neither known nor already on their way; now they are on their way."""
        found = []
        for text in texts:
            key = _digest(text)
            if key not in self._known:
                self._known[key] = None
                found.append(text)
            self._known.move_to_end(key)
        return found

    def learn(self, texts: Sequence[str], assessments: Sequence[Assessment]) -> None:
        """Take in the assessments of texts that were fresh."""
        for text, assessment in zip(texts, assessments, strict=True):
            self._known[_digest(text)] = assessment

    def recall(self, text: str) -> Assessment:
        """The assessment of a text that was learnt.

        :raises KeyError: if it was not.
        """
        assessment = self._known[_digest(text)]
        if assessment is None:
            raise KeyError("the text is still on its way")
        return assessment

    def forget(self, *, keep: int) -> None:
        """Drop the texts seen longest ago, but none of the last `keep` that were asked for."""
        while len(self._known) > max(self._most, keep):
            self._known.popitem(last=False)


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()

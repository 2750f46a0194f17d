"""Composed training pages: offers among the ordinary text of websites, as an HTML extractor gives it.

A label of a whole page says little about one sentence in it, and a sentence by itself says little about pages. Composed
pages teach both: which lines violate a policy is known to the character, and the rest of the page is ordinary. Each
epoch gets pages of its own, drawn by a seed.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..records.record import Record
from .disguise import disguise

_SEPARATORS = ("\n", "\n", "\n", "\n\n", " ", " | ")
_DISGUISED = 0.15
_LONGEST_LINE = 400


@dataclass(frozen=True, slots=True)
class Passage:
    """A short text with the policies that it violates, none where it is compliant."""

    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PageParts:
    """What pages are composed of.

    :param furniture: menus, forms, footers, notices and the like.
    :param prose: other ordinary text: articles, descriptions of companies, pages.
    :param listings: the product lines of one seller each.
    :param passages: short violating and innocent texts, which take their places among the rest.
    """

    furniture: tuple[str, ...]
    prose: tuple[str, ...]
    listings: tuple[tuple[str, ...], ...]
    passages: tuple[Passage, ...]

    @classmethod
    def of(cls, ordinary: Sequence[Record], passages: Sequence[Record]) -> "PageParts":
        """Parts from ordinary records, by their field `source`, and from short labelled records.

        Records that violate a policy or have unlabelled policies take no part as ordinary text.
        """
        compliant = [record for record in ordinary if not record.labels and not record.unknown]
        sellers: dict[str, list[str]] = {}
        for record in compliant:
            if record.extra.get("source") == "titles":
                sellers.setdefault(record.domain or record.id, []).append(record.text)
        rest = [record for record in compliant if record.extra.get("source") != "titles"]
        return cls(
            furniture=tuple(r.text for r in rest if r.extra.get("source") in FURNITURE),
            prose=tuple(r.text for r in rest if r.extra.get("source") not in FURNITURE),
            listings=tuple(tuple(lines) for lines in sellers.values()),
            passages=tuple(Passage(r.text, r.labels) for r in passages if not r.unknown),
        )

    @property
    def violating(self) -> tuple[Passage, ...]:
        """The passages that violate a policy."""
        return tuple(passage for passage in self.passages if passage.labels)

    @property
    def usable(self) -> bool:
        """Whether there is enough to compose a page of."""
        return bool((self.furniture or self.prose) and self.violating)


FURNITURE = ("furniture", "lines", "lists", "notices", "widgets")
"""Sources of everyday records that are parts of pages rather than texts of their own."""


def compose_pages(
    parts: PageParts, *, framed: int, pages: int, longest: int, epochs: int, seed: int
) -> list[list[Record]]:
    """For each place in an epoch the composed records of all epochs, one of which an epoch takes.

    :param framed: places for a passage with a few lines of ordinary text before and after it.
    :param pages: places for a page of 1 to `longest` chunks of ordinary text; every second one holds 1 to 3 offers.
    :return: `framed + pages` lists of `epochs` records each. Their `evidence` holds every violating passage verbatim.
    """
    if not parts.usable:
        return []
    made = []
    for place in range(framed + pages):
        kind = "framed" if place < framed else "page"
        versions = []
        for epoch in range(epochs):
            draw = random.Random(f"{seed} {kind} {place} {epoch}")
            chunks = _framed(parts, draw) if kind == "framed" else _page(parts, draw, longest)
            versions.append(_record(f"composed#{kind}-{place}-{epoch}", chunks, draw))
        made.append(versions)
    return made


def _framed(parts: PageParts, draw: random.Random) -> list[Passage]:
    """One passage, with none to three pieces of ordinary text on either side."""
    sides = [[_piece(parts, draw) for _ in range(draw.choice((0, 1, 2, 3)))] for _ in range(2)]
    before, after = ([Passage(text) for text in side] for side in sides)
    return [*before, draw.choice(parts.passages), *after]


def _piece(parts: PageParts, draw: random.Random) -> str:
    """Some neighbouring lines of an ordinary text."""
    lines = _ordinary(parts, draw).split("\n")
    count = draw.randint(1, len(lines))
    start = draw.randint(0, len(lines) - count)
    return "\n".join(lines[start : start + count])[:_LONGEST_LINE].strip() or lines[0][:_LONGEST_LINE]


def _page(parts: PageParts, draw: random.Random, longest: int) -> list[Passage]:
    """Chunks of ordinary text, in every second page with 1 to 3 offers among them."""
    # Even over the logarithm: short pages say more for their cost than long ones.
    count = round(math.exp(draw.uniform(0.0, math.log(longest))))
    chunks = [Passage(_ordinary(parts, draw)) for _ in range(count)]
    if parts.listings and draw.random() < 0.25:
        lines = draw.choice(parts.listings)
        chunks[0] = Passage("\n".join(draw.sample(lines, min(len(lines), max(2, count)))))
    if draw.random() < 0.5:
        for offer in draw.choices(parts.violating, k=draw.choice((1, 1, 1, 2, 3))):
            if draw.random() < _DISGUISED:
                offer = Passage(disguise(offer.text, draw, share=0.5), offer.labels)
            chunks.insert(draw.randint(0, len(chunks)), offer)
    return chunks


def _ordinary(parts: PageParts, draw: random.Random) -> str:
    """An ordinary text: furniture, prose, product lines, or an innocent passage with a policy's words."""
    kinds = [(0.5, parts.furniture), (0.35, parts.prose), (0.15, parts.listings)]
    kinds = [(share, texts) for share, texts in kinds if texts]
    texts = draw.choices([texts for _, texts in kinds], weights=[share for share, _ in kinds])[0]
    chosen = draw.choice(texts)
    return chosen if isinstance(chosen, str) else "\n".join(draw.sample(chosen, min(4, len(chosen))))


def _record(name: str, chunks: Sequence[Passage], draw: random.Random) -> Record:
    text = ""
    evidence: dict[str, tuple[str, ...]] = {}
    for chunk in chunks:
        text += (draw.choice(_SEPARATORS) if text else "") + chunk.text
        for policy in chunk.labels:
            evidence[policy] = (*evidence.get(policy, ()), chunk.text)
    return Record(
        id=name, text=text, parts=(), domain=None, country=None, collected_at=None, labels=tuple(evidence),
        unknown=(), annotator=None, labelled_at=None, evidence=evidence, extra={},
    )  # fmt: skip

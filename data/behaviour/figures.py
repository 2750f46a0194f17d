"""What behaviour tests found, as JSON and as the rows of a table."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Share:
    """`right` texts out of `of`."""

    right: int
    of: int

    @property
    def share(self) -> float | None:
        """The share that is right; None where nothing was tested."""
        return self.right / self.of if self.of else None

    def __str__(self) -> str:
        return "-" if self.share is None else f"{100 * self.share:.1f} % ({self.right} of {self.of})"

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {"right": self.right, "of": self.of, "share": self.share}


@dataclass(frozen=True, slots=True)
class Dilution:
    """The probability of an offer's policy after `sentences` harmless ones, divided by that of the offer alone.

    `median` and `smallest` are over `offers` offers; `kept` is how many of them keep at least half.
    """

    offers: int
    sentences: int
    median: float
    smallest: float
    kept: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: a test, its figure, and whatever explains it."""

    test: str
    figure: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The results of behaviour tests.

    :param offers: by policy, offers that are not clear; `ranked_first` those whose policy is the most probable one.
    :param ordinary: by kind, ordinary lines that are not clear: here fewer are better.
    :param framed: by kind of frame, offers inside one that are not clear.
    :param unchanged: by variation, texts whose decision stays the same.
    :param ordered: by policy, pairs whose violating text has the higher probability of the policy; `pairs_found` are the
        violating texts that are not clear, `pairs_passed` the compliant ones that are.
    :param dilution: None where there is nothing to dilute, or nothing to dilute it with.
    :param missed: ids of the offers that are clear, and `suspected` of the ordinary lines that are not.
    :param unknown_policies: policies of the suite that the model does not have.
    """

    offers: Mapping[str, Share]
    ranked_first: Share
    ordinary: Mapping[str, Share]
    framed: Mapping[str, Share]
    unchanged: Mapping[str, Share]
    ordered: Mapping[str, Share]
    pairs_found: Share
    pairs_passed: Share
    dilution: Dilution | None
    missed: tuple[str, ...] = ()
    suspected: tuple[str, ...] = ()
    unknown_policies: tuple[str, ...] = ()

    @property
    def found(self) -> Share:
        """Offers of all policies that are not clear."""
        return total(self.offers)

    @property
    def to_review(self) -> Share:
        """Ordinary lines of all kinds that are not clear."""
        return total(self.ordinary)

    @property
    def worst_frame(self) -> str | None:
        """The kind of frame in which the fewest offers are found."""
        return _extreme(self.framed, min)

    def to_json(self) -> dict[str, Any]:
        """The results as plain values, with the sums."""
        content = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
        sums = {"found": self.found.to_json(), "to_review": self.to_review.to_json()}
        return {**sums, "worst_frame": self.worst_frame, **content}

    def rows(self) -> tuple[Row, ...]:
        """The table."""
        return (*self._minimum_rows(), *self._invariance_rows(), *self._direction_rows())

    def summary(self) -> str:
        """The main figures in a sentence; empty where there are none."""
        parts = {
            "plain one-line offers found: ": self.found,
            "the same in the worst framing: ": self.framed.get(self.worst_frame or "", Share(0, 0)),
            "ordinary lines sent to review: ": self.to_review,
        }
        return "; ".join(f"{name}{share}" for name, share in parts.items() if share.of)

    def table(self) -> str:
        """The rows as plain text in columns."""
        rows = self.rows()
        wide = [max((len(getattr(row, name)) for row in rows), default=0) for name in ("test", "figure")]
        lines = [f"{row.test:<{wide[0]}}  {row.figure:<{wide[1]}}  {row.detail}".rstrip() for row in rows]
        return "\n".join(lines)

    def _minimum_rows(self) -> list[Row]:
        worst, most = _extreme(self.offers, min), _extreme(self.ordinary, max)
        rows = [
            Row("plain offers found", str(self.found), _named("worst policy", self.offers, worst)),
            Row("right policy ranked first", str(self.ranked_first)),
            Row("ordinary lines sent to review", str(self.to_review), _named("most", self.ordinary, most)),
        ]
        return [
            row for row, share in zip(rows, (self.found, self.found, self.to_review), strict=True) if share.of
        ]

    def _invariance_rows(self) -> list[Row]:
        framed = [
            Row(f"offers found in a frame: {kind}", str(share), "worst" if kind == self.worst_frame else "")
            for kind, share in self.framed.items()
        ]
        same = [Row(f"decision unchanged: {name}", str(share)) for name, share in self.unchanged.items()]
        if (found := self.dilution) is None:
            return framed + same
        figure = f"median {found.median:.2f}, smallest {found.smallest:.2f}"
        detail = f"{found.kept} of {found.offers} offers keep at least half"
        return [*framed, *same, Row(f"probability after {found.sentences} sentences : alone", figure, detail)]

    def _direction_rows(self) -> list[Row]:
        if not self.ordered:
            return []
        worst = _named("worst policy", self.ordered, _extreme(self.ordered, min))
        return [
            Row("pairs: violating text more probable", str(total(self.ordered)), worst),
            Row("pairs: violating text found", str(self.pairs_found)),
            Row("pairs: compliant text clear", str(self.pairs_passed)),
        ]


def total(shares: Mapping[str, Share]) -> Share:
    """All the shares as one."""
    return Share(sum(each.right for each in shares.values()), sum(each.of for each in shares.values()))


def _extreme(shares: Mapping[str, Share], choose: Callable[..., str]) -> str | None:
    """The name with the smallest or largest share, the first of equal ones."""
    tested = {name: share.right / share.of for name, share in shares.items() if share.of}
    return choose(tested, key=tested.__getitem__) if tested else None


def _named(what: str, shares: Mapping[str, Share], name: str | None) -> str:
    return "" if name is None else f"{what}: {name}, {shares[name]}"


def _plain(value: Any) -> Any:
    if isinstance(value, Share):
        return value.to_json()
    if isinstance(value, Dilution):
        return asdict(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return list(value) if isinstance(value, tuple) else value

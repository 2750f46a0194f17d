"""The record contract: one merchant's text and its labels."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.display import safe_repr
from ...core.errors import RecordError
from ...core.labels import LabelMatrix
from ..cleaning.page_text import PageText
from ..domains import registered_domain
from ..taxonomy import Taxonomy
from .schema import ALL_OTHERS, from_json_text, policy_ids, read_evidence, read_text, read_timestamp, wrong

MAX_DOCUMENT_CHARACTERS = 20_000_000
MAX_ID_CHARACTERS = 1_000
MAX_PAGES = 10_000
BODY_FIELDS = ("text", "html", "pages")
PAGE_SOURCE = ("collected_at", "warc_record_id")
"""What a page of a crawl may say of its capture."""
FIELDS = (
    "id",
    *BODY_FIELDS,
    "hidden_text",
    "name",
    "description",
    "domain",
    "country",
    "collected_at",
    "labels",
    "unknown",
    "annotator",
    "labelled_at",
    "evidence",
)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a site: its address, if known, either its text or its HTML, and where a crawl has it from."""

    url: str | None
    text: str | None
    html: str | None
    collected_at: str | None = None
    warc_record_id: str | None = None
    hidden_text: str | None = None

    def texts(self) -> PageText:
        """What a visitor sees, and what the page hides."""
        return (
            _page_text(self.html)
            if self.html is not None
            else PageText(self.text or "", self.hidden_text or "")
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Where a piece of the input lies in `Record.text`, in characters.

    `name` is "name", "description", "text", "html" or "pages[i]" with i from 0, and "hidden" or "hidden[i]" for what the
    body or that page does not show. `from_html`: it was read from markup. A page of a crawl also says when it was collected and which WARC record holds it.
    """

    name: str
    url: str | None
    start: int
    end: int
    collected_at: str | None = None
    warc_record_id: str | None = None
    from_html: bool = False

    @property
    def is_hidden(self) -> bool:
        """Whether no visitor sees this piece."""
        return self.name.startswith("hidden")


@dataclass(frozen=True, slots=True)
class Record:
    """One merchant's document, as the model reads it before cleaning, and its labels.

    `text` is name, description and body, then what pages hide, joined by line ends; `parts` says which piece is where. A policy
    in `labels` is violated, one in `unknown` is unlabelled, any other is not violated. `extra` keeps the
    fields that the contract does not name.
    """

    id: str
    text: str
    parts: tuple[Part, ...]
    domain: str | None
    country: str | None
    collected_at: str | None
    labels: tuple[str, ...]
    unknown: tuple[str, ...]
    annotator: str | None
    labelled_at: str | None
    evidence: dict[str, tuple[str, ...]]
    extra: dict[str, Any]

    @property
    def hidden_from(self) -> int | None:
        """Where in `text` the hidden pieces begin, which are the last; None without any."""
        return next((part.start for part in self.parts if part.is_hidden), None)


def parse_record(row: Mapping[str, Any], taxonomy: Taxonomy | None, *, row_number: int) -> Record:
    """Check one row of a data file and build its record.

    A field that is null counts as absent. Without `labels` the record is unlabelled: all its policies are
    unknown; an empty list of labels means that the merchant is compliant. In `unknown`, "*" stands for all
    policies that are not labels. Without a taxonomy, policy ids are not checked and "*" is kept.

    :raises RecordError: naming the row, the field and the value.
    """
    try:
        return record_from(row, taxonomy)
    except RecordError as error:
        raise RecordError(f"row {row_number}: {error}") from error


def record_from(row: Mapping[str, Any], taxonomy: Taxonomy | None) -> Record:
    """Like `parse_record`, but the error does not name the row.

    :raises RecordError: naming the field and the value.
    """
    given = {key: value for key, value in row.items() if value is not None}
    record_id = _id(given)
    text, parts = _document(given)
    labels, unknown = _labels(given, taxonomy)
    return Record(
        id=record_id,
        text=text,
        parts=parts,
        domain=_domain(read_text(given, "domain")),
        country=read_text(given, "country"),
        collected_at=read_timestamp(given, "collected_at"),
        labels=labels,
        unknown=unknown,
        annotator=read_text(given, "annotator"),
        labelled_at=read_timestamp(given, "labelled_at"),
        evidence=read_evidence(given, labels=labels, document=text),
        extra={key: value for key, value in given.items() if key not in FIELDS},
    )


def record_to_row(record: Record) -> dict[str, Any]:
    """Return a row that reads back as the same document, labels and fields; HTML is stored as text."""
    row: dict[str, Any] = {"id": record.id}
    pages = [_page_row(record, part) for part in record.parts if part.name.startswith("pages[")]
    for part in record.parts:
        if part.name in ("name", "description"):
            row[part.name] = record.text[part.start : part.end]
        elif part.name in ("text", "html"):
            row["text"] = record.text[part.start : part.end]
        elif part.name == "hidden":
            row["hidden_text"] = record.text[part.start : part.end]
    if pages:
        row["pages"] = pages
    elif "text" not in row:
        row["text"] = ""
    for field in ("domain", "country", "collected_at", "annotator", "labelled_at"):
        if (value := getattr(record, field)) is not None:
            row[field] = value
    row["labels"] = list(record.labels)
    if record.unknown:
        row["unknown"] = list(record.unknown)
    if record.evidence:
        row["evidence"] = {policy: list(quotes) for policy, quotes in record.evidence.items()}
    return {**row, **record.extra}


def _page_row(record: Record, part: Part) -> dict[str, Any]:
    row: dict[str, Any] = {"url": part.url, "text": record.text[part.start : part.end]}
    name = part.name.replace("pages", "hidden")
    for hidden in (each for each in record.parts if each.name == name):
        row["hidden_text"] = record.text[hidden.start : hidden.end]
    return row | {name: value for name in PAGE_SOURCE if (value := getattr(part, name)) is not None}


def label_matrix(records: Sequence[Record], taxonomy: Taxonomy) -> LabelMatrix:
    """Return the labels of N records for K policies, columns in the taxonomy's order; an unlabelled cell is 0.

    :raises RecordError: if a record names a policy that the taxonomy does not have.
    """
    values = np.zeros((len(records), len(taxonomy)), dtype=np.float32)
    mask = np.ones((len(records), len(taxonomy)), dtype=bool)
    for row, record in enumerate(records):
        for policy in (*record.labels, *record.unknown):
            if policy != ALL_OTHERS and policy not in taxonomy:
                raise RecordError(f"record {safe_repr(record.id)}: {taxonomy.explain_unknown(policy)}")
        if ALL_OTHERS in record.unknown:
            mask[row] = False
        mask[row, [taxonomy.index(policy) for policy in record.unknown if policy != ALL_OTHERS]] = False
        positives = [taxonomy.index(policy) for policy in record.labels]
        values[row, positives] = 1.0
        mask[row, positives] = True
    return LabelMatrix(values, mask)


def _id(given: Mapping[str, Any]) -> str:
    if "id" not in given or given["id"] == "":
        raise RecordError("the field `id` is missing; give each record a unique one")
    value = given["id"]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise wrong("id", value, "text")
    if len(value) > MAX_ID_CHARACTERS:
        raise RecordError(f"id: {safe_repr(value)} is longer than {MAX_ID_CHARACTERS:,} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise RecordError(f"id: {safe_repr(value)} holds a control character or half a surrogate pair")
    return value


def _domain(given: str | None) -> str | None:
    """A domain as given; of a URL its registered domain, so that two pages of a site are one merchant.

    :raises MissingExtraError: if it is a URL and publicsuffixlist is not installed.
    """
    if given is None or not ("/" in given or ":" in given):
        return given
    found = registered_domain(given)
    return found if found is not None and "." in found else given


def _document(given: Mapping[str, Any]) -> tuple[str, tuple[Part, ...]]:
    """Join name, description and body by line ends and note where each lies; empty pieces are left out."""
    pieces: list[str] = []
    parts: list[Part] = []
    end = -1
    for name, page, piece in _pieces(given):
        if not piece:
            continue
        start = end + 1
        end = start + len(piece)
        if end > MAX_DOCUMENT_CHARACTERS:
            raise RecordError(f"{name}: the document would pass {MAX_DOCUMENT_CHARACTERS:,} characters")
        pieces.append(piece)
        if page is None:
            parts.append(
                Part(name, None, start, end, from_html="html" in given and name in ("html", "hidden"))
            )
        else:
            source = (page.collected_at, page.warc_record_id)
            parts.append(Part(name, page.url, start, end, *source, from_html=page.html is not None))
    text = "\n".join(pieces)
    if not text or text.isspace():
        raise RecordError("the document is empty: no name, description or body with visible text")
    return text, tuple(parts)


def _pieces(given: Mapping[str, Any]) -> Iterator[tuple[str, Page | None, str]]:
    bodies = [field for field in BODY_FIELDS if field in given]
    if not bodies:
        raise RecordError("one of `text`, `html` or `pages` must be given; none is")
    if len(bodies) > 1:
        raise RecordError(f"give one of `text`, `html` or `pages`; this row has {' and '.join(bodies)}")
    for field in ("name", "description"):
        yield field, None, read_text(given, field) or ""
    hidden: list[tuple[str, Page | None, str]] = []
    if "pages" in given:
        for number, page in enumerate(_pages(given["pages"])):
            texts = page.texts()
            hidden.append((f"hidden[{number}]", page, texts.hidden))
            yield f"pages[{number}]", page, texts.visible
    elif "html" in given:
        texts = _page_text(read_text(given, "html") or "")
        hidden.append(("hidden", None, texts.hidden))
        yield "html", None, texts.visible
    else:
        yield "text", None, read_text(given, "text") or ""
    hidden.append(("hidden", None, read_text(given, "hidden_text") or ""))
    yield from hidden


def _pages(value: Any) -> list[Page]:
    value = from_json_text("pages", value)
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise wrong("pages", value, "a list of at least one {url, text or html}")
    if len(value) > MAX_PAGES:
        raise RecordError(f"pages: {len(value):,} pages; at most {MAX_PAGES:,} are read")
    return [_page(page, place=f"pages[{number}]") for number, page in enumerate(value)]


def _page(value: Any, *, place: str) -> Page:
    if not isinstance(value, Mapping):
        raise wrong(place, value, "an object with url and text or html")
    given = {key: item for key, item in value.items() if item is not None}
    for key, item in given.items():
        if key not in ("url", "text", "html", "hidden_text", *PAGE_SOURCE):
            raise RecordError(f"{place}: unknown key {safe_repr(key)}; a page has url and text or html")
        if key != "collected_at" and not isinstance(item, str):
            raise wrong(f"{place}.{key}", item, "text")
    if ("text" in given) == ("html" in given):
        raise RecordError(f"{place}: give text or html, one of the two")
    return Page(
        given.get("url"),
        given.get("text"),
        given.get("html"),
        read_timestamp(given, "collected_at"),
        given.get("warc_record_id"),
        given.get("hidden_text"),
    )


def _page_text(html: str) -> PageText:
    from ..cleaning.html import (  # its parser comes with an extra; plain text does not need it
        MOST_MARKUP,
        read_page,
    )

    if len(html) > MOST_MARKUP:
        raise RecordError(f"html: {len(html):,} characters; at most {MOST_MARKUP:,} are read")
    return read_page(html)


def _labels(given: Mapping[str, Any], taxonomy: Taxonomy | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    labels = policy_ids(given, "labels", taxonomy)
    unknown = policy_ids(given, "unknown", taxonomy)
    if ALL_OTHERS in labels:
        raise RecordError('labels: "*" is meant for `unknown`; name each policy')
    if both := sorted(set(labels) & set(unknown)):
        raise RecordError(f"unknown: {safe_repr(both[0])} is also among the labels; it is one or the other")
    if "labels" not in given:
        unknown = (ALL_OTHERS,)
    if ALL_OTHERS in unknown and taxonomy is not None:
        unknown = tuple(policy for policy in taxonomy.ids if policy not in labels)
    return labels, unknown

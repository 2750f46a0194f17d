"""Reading single fields of a row: types checked, and errors that name the field and the value."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NoReturn

from ...core.display import safe_repr
from ...core.errors import RecordError
from ..taxonomy import Taxonomy

ALL_OTHERS = "*"
"""In `unknown`: every policy that is not among the labels."""


def wrong(field: str, value: object, wanted: str) -> RecordError:
    """Return the error for a value of the wrong kind."""
    return RecordError(f"{field}: {safe_repr(value)} is not {wanted}")


def strict_json(text: str) -> Any:
    """Parse JSON; a key given twice, NaN, infinities and endless nesting are refused.

    :raises ValueError: with the reason.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the key {safe_repr(name)} is given twice")
            seen.add(name)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parse_timestamp(value: str) -> datetime:
    """Parse an ISO 8601 date, or date and time; without a time zone it is in UTC.

    :raises ValueError: if it is neither.
    """
    parsed = datetime.fromisoformat(value)
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def policy_ids(given: Mapping[str, Any], field: str, taxonomy: Taxonomy | None) -> tuple[str, ...]:
    """Read a list of policy ids; an absent field is an empty list.

    :raises RecordError: if it is not a list, an id is repeated, or the taxonomy does not have it.
    """
    value = given.get(field, [])
    if isinstance(value, str):  # a cell of a table: "a;b", "a,b", "a|b" or a list
        if value.lstrip().startswith("["):
            value = _list_in_cell(field, value)
        else:
            value = [item.strip() for item in re.split("[;,|]", value) if item.strip()]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise wrong(field, value, "a list of policy ids")
    seen: set[str] = set()
    for item in value:
        if not isinstance(item, str) or not item:
            raise wrong(field, item, "a policy id")
        if item in seen:
            raise RecordError(f"{field}: {safe_repr(item)} is given twice")
        if taxonomy is not None and item != ALL_OTHERS and item not in taxonomy:
            raise RecordError(f"{field}: {taxonomy.explain_unknown(item)}")
        seen.add(item)
    return tuple(value)


# A list as Python, pandas or numpy prints it: ['a', 'b'] or ['a' 'b'].
_PRINTED_ITEM = re.compile(r"""\s*(?:'([^'"\\]*)'|"([^'"\\]*)")\s*,?""")


def _list_in_cell(field: str, value: str) -> Any:
    """The list in a table's cell: JSON, or as pandas and numpy print a list of policy ids.

    :raises RecordError: if it is neither.
    """
    try:
        return strict_json(value)
    except ValueError:
        inside = value.strip()[1:-1]
        items, end = [], 0
        while match := _PRINTED_ITEM.match(inside, end):
            items.append(match[1] if match[1] is not None else match[2])
            end = match.end()
        if not value.rstrip().endswith("]") or inside[end:].strip() or not items:
            raise wrong(field, value, 'JSON, nor a list such as ["a", "b"]') from None
        return items


def read_evidence(
    given: Mapping[str, Any], *, labels: tuple[str, ...], document: str
) -> dict[str, tuple[str, ...]]:
    """Read the quotes that show each label.

    :raises RecordError: if a policy is not a label, or a quote is not in the document.
    """
    value = from_json_text("evidence", given.get("evidence", {}))
    if isinstance(value, list):  # Parquet returns a map as a list of pairs
        value = dict(value) if all(isinstance(pair, tuple) for pair in value) else value
    if not isinstance(value, Mapping):
        raise wrong("evidence", value, "an object {policy: [quotes]}")
    evidence: dict[str, tuple[str, ...]] = {}
    for policy, quotes in value.items():
        if quotes is None:
            continue
        if policy not in labels:
            raise RecordError(f"evidence: {safe_repr(policy)} is not among the record's labels")
        if not isinstance(quotes, Sequence) or isinstance(quotes, str):
            raise wrong(f"evidence.{policy}", quotes, "a list of quotes")
        for quote in quotes:
            if not isinstance(quote, str) or not quote:
                raise wrong(f"evidence.{policy}", quote, "a quote")
            if quote not in document:
                raise RecordError(f"evidence.{policy}: {safe_repr(quote)} is not in the document as quoted")
        evidence[policy] = tuple(quotes)
    return evidence


def read_text(given: Mapping[str, Any], field: str) -> str | None:
    """Read a field that holds text, if it is there.

    :raises RecordError: if it holds something else.
    """
    value = given.get(field)
    if value is not None and not isinstance(value, str):
        raise wrong(field, value, "text")
    return value


def read_timestamp(given: Mapping[str, Any], field: str) -> str | None:
    """Read a field that holds a date or a date and time, if it is there, in ISO 8601.

    :raises RecordError: if it holds something else.
    """
    value = given.get(field)
    if isinstance(value, date):  # a datetime is one too; Parquet returns both
        return value.isoformat()
    text = read_text(given, field)
    if text is None:
        return None
    try:
        parse_timestamp(text)
    except ValueError:
        raise wrong(field, text, "an ISO date such as 2026-03-31") from None
    return text


def from_json_text(field: str, value: Any) -> Any:
    """Return the value of a table cell that holds JSON; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return strict_json(value)
    except ValueError as error:
        raise RecordError(f"{field}: {safe_repr(value)} is not JSON ({error})") from error

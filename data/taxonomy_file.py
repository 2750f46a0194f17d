"""The YAML file of a taxonomy: what it must hold, and every fault in it reported together."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ..core.display import safe_repr, visible
from ..core.errors import TaxonomyError
from .taxonomy import Policy, Taxonomy

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _PolicyEntry(_Part):
    # A user's own codes, such as HR-01, are ids; separators of lists and what a shell or a path would read are not.
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    title: _Text
    severity: Literal["prohibited", "restricted"]
    covers: _Text
    excludes: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(default="", alias="not")


class _File(_Part):
    version: Annotated[int, Field(ge=1)]
    policies: Annotated[list[_PolicyEntry], Field(min_length=1)]


# What a value must be, by pydantic's type of error.
_WANTED = {
    "string_type": "text (quote it)",
    "string_too_short": "text",
    "string_pattern_mismatch": "an id of at most 64 ASCII letters, digits, _, - and ., such as HR-01",
    "literal_error": "prohibited or restricted",
    "int_type": "a whole number from 1 up",
    "greater_than_equal": "a whole number from 1 up",
    "list_type": "a list of at least one policy",
    "too_short": "a list of at least one policy",
}


def parse_taxonomy(content: bytes, *, source: str) -> Taxonomy:
    """Build the taxonomy that a YAML file describes.

    :raises TaxonomyError: with `source` and every fault found.
    """
    value, faults = _read_yaml(content, source=source)
    try:
        file = _File.model_validate(value)
    except ValidationError as error:
        faults += [_explain(each) for each in error.errors()]
    faults += _repeated_ids(value)
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise TaxonomyError(f"{source}: {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listed}")
    return Taxonomy(file.version, tuple(Policy(**entry.model_dump()) for entry in file.policies))


def _read_yaml(content: bytes, *, source: str) -> tuple[Any, list[str]]:
    """The value of the file, and a fault for each key that is given twice."""
    try:
        loader = yaml.SafeLoader(content)
        try:
            root = loader.get_single_node()
            repeated = list(_repeated_keys(root, seen=set()))
            return (None if root is None else loader.construct_document(root)), repeated
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:
        raise TaxonomyError(f"{source}: not valid YAML: {error}") from error
    except RecursionError as error:
        raise TaxonomyError(f"{source}: nested too deeply to be a taxonomy") from error


def _repeated_keys(node: Any, *, seen: set[int]) -> Iterator[str]:
    """Yield a fault for each key given twice in one mapping: YAML would silently keep the last."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    yield f"line {key.start_mark.line + 1}: the key {safe_repr(key.value)} is given twice"
                keys.add(key.value)
            yield from _repeated_keys(value, seen=seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item, seen=seen)


def _repeated_ids(value: Any) -> Iterator[str]:
    """Yield a fault for each policy whose id an earlier one has; columns of tables differ by more than case."""
    policies = value.get("policies") if isinstance(value, Mapping) else None
    first: dict[str, int] = {}
    for number, entry in enumerate(policies if isinstance(policies, list) else [], start=1):
        name = entry.get("id") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and first.setdefault(name.casefold(), number) != number:
            other = first[name.casefold()]
            yield f"policies[{number}].id: {safe_repr(name)} is already the id of policies[{other}]"


def _explain(error: Mapping[str, Any]) -> str:
    """One fault in words: the place, the value, and what it must be."""
    location, kind, value = error["loc"], error["type"], error["input"]
    parts = [f"[{part + 1}]" if spot == 1 else f".{part!s:.60}" for spot, part in enumerate(location)]
    place = visible("".join(parts).removeprefix(".")) or "top level"
    keys = ["id", "title", "severity", "covers", "not"] if len(parts) > 1 else ["version", "policies"]
    if kind == "missing":
        return f"{place}: is missing"
    if kind in ("extra_forbidden", "invalid_key"):
        return f"{place}: unknown key; the keys are {', '.join(keys)}"
    wanted = _WANTED.get(kind) or f"a mapping with {', '.join(keys)}"
    if value is None or value in ("", [], {}) or (isinstance(value, str) and not value.strip()):
        return f"{place}: is empty; it must be {wanted}"
    return f"{place}: {safe_repr(value)} is not {wanted}"

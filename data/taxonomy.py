"""The taxonomy: which policies a merchant's text is read for, in the order of the model's outputs."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..core.display import safe_repr
from ..core.errors import TaxonomyError
from ..core.extras import require

SEVERITIES = ("prohibited", "restricted")
_POLICY_ID = re.compile(r"[a-z][a-z0-9_]*")
_REQUIRED = ("id", "title", "severity", "covers")
_OPTIONAL = ("not",)


@dataclass(frozen=True, slots=True)
class Policy:
    """One rule: `covers` is what violates it, `excludes` (YAML key `not`) the near misses that do not."""

    id: str
    title: str
    severity: str
    covers: str
    excludes: str

    def to_json(self) -> dict[str, str]:
        """Return the policy with the keys of the YAML file."""
        return {
            "id": self.id,
            "title": self.title,
            "severity": self.severity,
            "covers": self.covers,
            "not": self.excludes,
        }


@dataclass(frozen=True)
class Taxonomy:
    """The policies in output order."""

    version: int
    policies: tuple[Policy, ...]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Policy ids in output order."""
        return tuple(policy.id for policy in self.policies)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {policy_id: position for position, policy_id in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.policies)

    def __contains__(self, policy_id: object) -> bool:
        return policy_id in self._positions

    def index(self, policy_id: str) -> int:
        """Return the output position of a policy.

        :raises TaxonomyError: if the taxonomy has no such policy.
        """
        try:
            return self._positions[policy_id]
        except KeyError:
            raise TaxonomyError(self.explain_unknown(policy_id)) from None

    def explain_unknown(self, policy_id: str) -> str:
        """Say that `policy_id` is not a policy here, and which one may have been meant."""
        close = difflib.get_close_matches(policy_id[:100], self.ids, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(self.ids)}"
        return f"{safe_repr(policy_id)} is not a policy of the taxonomy; {hint}"

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"version": self.version, "policies": [policy.to_json() for policy in self.policies]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Taxonomy":
        """Build a taxonomy from `to_json`'s mapping.

        :raises TaxonomyError: with every fault found.
        """
        return _build(value, source="taxonomy", earlier=[])


def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """Read a taxonomy from a YAML file; None reads the one that is shipped.

    :raises TaxonomyError: with the file's name and every fault in it.
    """
    if path is None:
        resource = files("merchantguard.configs").joinpath("policies.yaml")
        return _parse(resource.read_bytes(), source="policies.yaml")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise TaxonomyError(f"{path}: cannot be read ({error.strerror}); give a taxonomy file") from error
    return _parse(content, source=str(path))


def _parse(content: bytes, *, source: str) -> Taxonomy:
    yaml = require("yaml", "cli")
    try:
        loader = yaml.SafeLoader(content)
        try:
            root = loader.get_single_node()
            duplicates = list(_duplicate_keys(yaml, root, seen=set()))
            value = loader.construct_document(root) if root is not None else None
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:
        raise TaxonomyError(f"{source}: not valid YAML: {error}") from error
    except RecursionError as error:
        raise TaxonomyError(f"{source}: nested too deeply to be a taxonomy") from error
    return _build(value, source=source, earlier=duplicates)


def _duplicate_keys(yaml: Any, node: Any, *, seen: set[int]) -> Iterator[str]:
    """Yield a fault for each key given twice in one mapping: YAML would keep the last and say nothing."""
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
            yield from _duplicate_keys(yaml, value, seen=seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _duplicate_keys(yaml, item, seen=seen)


def _build(value: Any, *, source: str, earlier: list[str]) -> Taxonomy:
    faults = list(earlier)
    policies: list[Policy] = []
    version = 0
    if not isinstance(value, Mapping):
        faults.append(f"is {_kind(value)}; it must be a mapping with `version` and `policies`")
    else:
        faults += _key_faults(value, required=("version", "policies"), optional=(), place="top level")
        version = value.get("version", 1)
        if type(version) is not int or version < 1:
            faults.append(f"version: {safe_repr(version)} must be a whole number from 1 up")
        policies = _policies(value.get("policies"), faults) if "policies" in value else []
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise TaxonomyError(f"{source}: {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listed}")
    return Taxonomy(version=version, policies=tuple(policies))


def _policies(value: Any, faults: list[str]) -> list[Policy]:
    """Read the list of policies; add to `faults` whatever is wrong with any of them."""
    if not isinstance(value, list) or not value:
        faults.append(f"policies: is {_kind(value)}; it must be a list of at least one policy")
        return []
    policies: list[Policy] = []
    first_places: dict[str, int] = {}
    for number, entry in enumerate(value, start=1):
        found = _policy_faults(entry, place=f"policies[{number}]")
        policy_id = entry.get("id") if isinstance(entry, Mapping) else None
        if isinstance(policy_id, str) and policy_id in first_places:
            found.append(
                f"policies[{number}].id: {safe_repr(policy_id)} is already the id of "
                f"policies[{first_places[policy_id]}]"
            )
        elif isinstance(policy_id, str):
            first_places[policy_id] = number
        faults += found
        if not found:
            policies.append(
                Policy(
                    id=entry["id"],
                    title=entry["title"].strip(),
                    severity=entry["severity"],
                    covers=entry["covers"].strip(),
                    excludes=entry.get("not", "").strip(),
                )
            )
    return policies


def _policy_faults(entry: Any, *, place: str) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"{place}: is {_kind(entry)}; it must be a mapping with {', '.join(_REQUIRED)}"]
    faults = _key_faults(entry, required=_REQUIRED, optional=_OPTIONAL, place=place)
    for key in (*_REQUIRED, *_OPTIONAL):
        if key not in entry:
            continue
        text = entry[key]
        if not isinstance(text, str):
            faults.append(f"{place}.{key}: {safe_repr(text)} is {_kind(text)}; it must be text (quote it)")
        elif not text.strip() and key != "not":
            faults.append(f"{place}.{key}: is empty")
        elif key == "id" and not _POLICY_ID.fullmatch(text):
            faults.append(
                f"{place}.id: {safe_repr(text)} must be small letters, digits and _, a letter first"
            )
        elif key == "severity" and text not in SEVERITIES:
            faults.append(f"{place}.severity: {safe_repr(text)} must be {' or '.join(SEVERITIES)}")
    return faults


def _key_faults(
    mapping: Mapping[Any, Any], *, required: tuple[str, ...], optional: tuple[str, ...], place: str
) -> list[str]:
    known = (*required, *optional)
    faults = [f"{place}: the key `{key}` is missing" for key in required if key not in mapping]
    for key in mapping:
        if key not in known:
            faults.append(f"{place}: unknown key {safe_repr(key)}; the keys are {', '.join(known)}")
    return faults


def _kind(value: object) -> str:
    """Name a YAML value's type for someone who does not write Python."""
    if value is None or value == [] or value == {}:
        return "empty"
    names = {bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list"}
    if isinstance(value, Mapping):
        return "a mapping"
    return names.get(type(value), f"a {type(value).__name__}")

"""The taxonomy: the policies that a merchant's text is checked for, in the order of the model's outputs."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..core.display import safe_repr
from ..core.errors import TaxonomyError
from ..core.extras import require


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
        """Say that `policy_id` is not a policy here, and suggest the one that may have been meant."""
        close = difflib.get_close_matches(policy_id[:100], self.ids, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(self.ids)}"
        return f"{safe_repr(policy_id)} is not a policy of the taxonomy; {hint}"

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"version": self.version, "policies": [policy.to_json() for policy in self.policies]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Taxonomy":
        """Build a taxonomy from `to_json`'s mapping.

        :raises TaxonomyError: if it is not one that `to_json` returns.
        """
        keys = ("id", "title", "severity", "covers", "not")
        try:
            policies = tuple(Policy(*(entry[key] for key in keys)) for entry in value["policies"])
            taxonomy = cls(version=value["version"], policies=policies)
            repeated = len(set(taxonomy.ids)) < len(taxonomy)
        except (KeyError, TypeError) as error:
            raise TaxonomyError(f"the taxonomy is damaged ({error!r}); write it again") from error
        if repeated:
            raise TaxonomyError("the taxonomy is damaged (it has two policies of one id); write it again")
        return taxonomy


def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """Read a taxonomy from a YAML file; None reads the one that is shipped.

    :raises TaxonomyError: with the file's name and every fault in it.
    """
    require("pydantic", "cli")
    # Imported here, because scoring must not load pydantic and YAML.
    from .taxonomy_file import parse_taxonomy

    if path is None:
        resource = files("merchantguard.configs").joinpath("policies.yaml")
        return parse_taxonomy(resource.read_bytes(), source="policies.yaml")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise TaxonomyError(f"{path}: cannot be read ({error.strerror}); give a taxonomy file") from error
    return parse_taxonomy(content, source=str(path))

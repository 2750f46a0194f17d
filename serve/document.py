"""A JSON document read field by field, so that every fault names its place."""

import sys
from typing import Any, NoReturn

from ..core.errors import BundleError

# More than any window holds; the tokenizers library overflows somewhere above.
_LARGEST_INTEGER = 2**31 - 1


class Fields:
    """A JSON object and the place it stands at. Every method raises BundleError where the value is not as it must be."""

    def __init__(self, content: Any, place: str) -> None:
        self._place = place
        if not isinstance(content, dict):
            self.fail("must be an object")
        self._content: dict[str, Any] = content

    def fail(self, fault: str) -> NoReturn:
        """Refuse the document: `fault` says what is wrong at this place."""
        raise BundleError(f"{self._place} {fault}")

    def get(self, key: str) -> Any:
        """The value of a key that must be there."""
        if key not in self._content:
            self.fail(f"{key} is missing")
        return self._content[key]

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._content

    def inner(self, key: str) -> "Fields":
        """The object under a key."""
        return Fields(self.get(key), f"{self._place} {key}:")

    def entries(self, key: str) -> list["Fields"]:
        """The objects of the list under a key."""
        value = self.get(key)
        if not isinstance(value, list):
            self.fail(f"{key} must be a list")
        return [Fields(entry, f"{self._place} {key}[{row}]:") for row, entry in enumerate(value)]

    def string(self, key: str) -> str:
        """A text that is not empty."""
        value = self.get(key)
        if not isinstance(value, str) or not value.strip():
            self.fail(f"{key} must be a text that is not empty")
        return str(value)

    def integer(self, key: str) -> int:
        """A whole number."""
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST_INTEGER:
            self.fail(f"{key} must be a whole number up to {_LARGEST_INTEGER}")
        return int(value)

    def number(self, key: str) -> float:
        """A finite number."""
        value = self.get(key)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not abs(value) <= sys.float_info.max
        ):
            self.fail(f"{key} must be a finite number")
        return float(value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        value = self.get(key)
        if not isinstance(value, list):
            self.fail(f"{key} must be a list")
        return tuple(Fields({key: each}, self._place).number(key) for each in value)

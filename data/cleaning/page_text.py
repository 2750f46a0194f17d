"""The text of a page, divided by whether a visitor sees it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PageText:
    """What a page says: to a visitor, and in elements that are hidden; `truncated`: some of it is in neither."""

    visible: str
    hidden: str = ""
    truncated: bool = False

"""Text of HTML pages, visible and hidden distinguished: `read_page`, `html_to_text`."""

from .page import MOST_CHARACTERS, MOST_MARKUP, html_to_text, read_page

__all__ = ["MOST_CHARACTERS", "MOST_MARKUP", "html_to_text", "read_page"]

"""The characters that are never drawn, in one table; each constant goes between the brackets of a regular expression.

Merchants hide words with them. Cleaning drops all of them, near-duplicates are compared without the format characters,
and `display` shows a symbol in place of each.
"""

FORMAT_CHARACTERS = (
    "\u00ad\u034f"  # soft hyphen, combining grapheme joiner
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of writing
    "\u180e\u200b-\u200d\u2060-\u2065\u206a-\u206f\ufeff"  # spaces and joiners without width
)
"""Characters without width that join, separate or reorder their neighbours."""

FILLERS = "\u115f\u1160\u17b4\u17b5\u3164\uffa0"
"""Blank letters of Hangul and Khmer."""

VARIATION_SELECTORS = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
"""They select a shape of the character before them."""

PLACEHOLDERS = "\ufff9-\ufffc"
"""Marks of annotations and of embedded objects."""

TAGS = "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
"""Tag characters, and the rest of the range that is reserved to be ignored."""

INVISIBLE = FORMAT_CHARACTERS + FILLERS + VARIATION_SELECTORS + PLACEHOLDERS + TAGS
"""All of the above. Control characters and line breaks are not among them: they have effects of their own."""

"""Cleaning merchant text, the same in training and in scoring: `text.clean`, with a map back to the original, and
`html.html_to_text`."""

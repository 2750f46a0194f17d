"""Reports in HTML, model cards in Markdown, tables for the terminal.

Public parts: `write_report`, `run_card`, `write_comparison`, `format_table`, `write_page`.
"""

"""What becomes of opinions: a page for people, events of the decision log, weak training records."""

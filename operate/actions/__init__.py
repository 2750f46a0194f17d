"""Actions: a versioned table turns assessments into what is done about a merchant."""

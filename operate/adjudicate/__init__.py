"""The adjudicator: an LLM's second opinion on the uncertain few, with proven quotes."""

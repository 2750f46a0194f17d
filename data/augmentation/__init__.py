"""Training records made from the given ones: `quotes.quote_records`, `quotes.compliant_passages`, `disguise.disguised_copies`."""

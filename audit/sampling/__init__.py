"""Which cells reviewers look at: suspects, random controls and gold items (`scan_records`), and their mix in a review."""

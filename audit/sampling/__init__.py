"""Which cells become items of the audit."""

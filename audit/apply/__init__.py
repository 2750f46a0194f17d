"""Writing corrected data with the source of each change (`apply_audit`), and restoring the old data (`revert_data`)."""

"""Writing corrected data, and reverting it."""

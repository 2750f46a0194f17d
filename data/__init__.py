"""The taxonomy, records and their readers, text cleaning, windows, splits and the shipped corpus."""

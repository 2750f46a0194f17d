"""The shipped phrasebook: short texts that teach the words of each trade (see README.md beside this file)."""

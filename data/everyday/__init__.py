"""Everyday texts: the ordinary world, and listing lines and pages among it."""

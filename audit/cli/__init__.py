"""The seven label-audit commands."""

"""The terminal interface: `ReviewApp`."""

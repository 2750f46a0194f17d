"""An audit on disk: the scan and the journal of answers."""

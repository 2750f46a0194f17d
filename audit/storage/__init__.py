"""An audit on disk: the scan (`Scan`, `write_scan`), written once, and the journal of answers (`Journal`), only appended to."""

"""The record contract: `record.Record`, `readers.read_records` and `iter_records`, `writers.write_records`, and
`fingerprint.fingerprint_records`, which identifies the data that something was made from."""

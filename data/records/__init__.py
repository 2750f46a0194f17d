"""The record contract: what a record is, and reading and writing files of them."""

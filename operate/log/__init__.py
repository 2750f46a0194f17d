"""The decision log: append-only segments that say later why a decision was made.

`LogWriter` appends, `read_log`, `read_logs` and `histories` read, `verify` checks the chain, `head` is its last line,
`log_key` is the secret of text hashes.
"""

from .reader import History, histories, read_log, read_logs, verify
from .segments import Head, LogError, head
from .writer import LogFull, LogOptions, LogWriter, log_key

__all__ = [
    "Head", "History", "LogError", "LogFull", "LogOptions", "LogWriter", "head", "histories", "log_key", "read_log",
    "read_logs", "verify",
]  # fmt: skip

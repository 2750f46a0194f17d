"""The decision log: append-only segments that say later why a decision was made.

`LogWriter` appends, `read_log`, `read_logs` and `histories` read, `verify` checks the chain, `log_key` is the secret of text hashes.
"""

from .reader import History, histories, read_log, read_logs, verify
from .segments import LogError
from .writer import LogFull, LogOptions, LogWriter, log_key

__all__ = [
    "History", "LogError", "LogFull", "LogOptions", "LogWriter", "histories", "log_key", "read_log",
    "read_logs", "verify",
]  # fmt: skip

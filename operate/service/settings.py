"""Settings of the scoring service."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ...core.errors import SettingsError

KEYS_VARIABLE, ADMIN_KEYS_VARIABLE = "MERCHANTGUARD_API_KEYS", "MERCHANTGUARD_ADMIN_KEYS"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How the service runs.

    :param keys: API keys that may assess; empty lets everybody who can reach the service.
    :param admin_keys: keys that may also exchange the bundle.
    :param queue_tokens: most tokens that wait; more are answered with 429.
    :param max_body_bytes: most bytes of a request; more are answered with 413.
    :param max_items: most texts of a request.
    :param deadline_ms: deadline of a request that states none; None waits.
    :param pause_seconds: between the signal to stop and the last request that is taken, for load balancers to notice.
    :param drain_seconds: most time for what is accepted to be answered.
    :param log: folder of the decision log; None keeps none.
    :param log_when_full: "fail" answers 503 while the log cannot keep up; "drop" counts what it loses.
    :param actions: file of an action table; None decides no actions.
    :param watch: look for a new bundle in its folder so often, in seconds; None never looks.
    """

    bundle: Path
    host: str = "127.0.0.1"
    port: int = 8080
    keys: tuple[str, ...] = field(default=(), repr=False)
    admin_keys: tuple[str, ...] = field(default=(), repr=False)
    allow_open: bool = False
    threads: int = 0
    variant: str = "auto"
    cascade: float | None = None
    queue_tokens: int = 200_000
    max_body_bytes: int = 10 << 20
    max_items: int = 1000
    deadline_ms: int | None = None
    pause_seconds: float = 5.0
    drain_seconds: float = 30.0
    log: Path | None = None
    log_when_full: Literal["fail", "drop"] = "fail"
    log_texts: bool = False
    actions: Path | None = None
    audit_share: float = 0.0
    watch: float | None = None

    def check(self) -> None:
        """Refuse settings that would open the service to everybody by mistake.

        :raises SettingsError: naming what to do.
        """
        if self.host not in _LOOPBACK and not self.keys and not self.allow_open:
            raise SettingsError(
                f"--host {self.host} is reachable from other machines and there are no API keys: give --keys FILE or "
                f"{KEYS_VARIABLE}, or --allow-open if something else keeps strangers out"
            )
        short = [key for key in (*self.keys, *self.admin_keys) if len(key) < 16]
        if short:
            raise SettingsError(f"{len(short)} API keys are shorter than 16 characters: use long random ones")


def read_keys(path: Path | None, variable: str) -> tuple[str, ...]:
    """API keys from a file, one a line (# begins a comment), and from an environment variable, separated by commas.

    :raises SettingsError: if the file cannot be read or holds none.
    """
    keys = [key.strip() for key in os.environ.get(variable, "").split(",") if key.strip()]
    if path is not None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SettingsError(f"{path}: the API keys cannot be read ({error.strerror})") from error
        found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not found:
            raise SettingsError(f"{path}: no API key in the file; write one a line")
        keys += found
    return tuple(dict.fromkeys(keys))

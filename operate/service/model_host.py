"""The model behind the service: loaded, tested by its own golden texts, and exchanged without losing a request."""

import ctypes
import gc
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.errors import BundleError, MerchantGuardError
from ...core.files import read_json
from ...serve import Assessment, MicroBatcher, Scorer
from ...serve.bundle import DOCUMENT
from .settings import ServiceSettings

_LOGGER = logging.getLogger("merchantguard.service")
_LONGEST_LEASE = 300.0  # seconds
_TOLERANCE = 0.02
"""Most that a probability of a golden text may differ: bfloat16 variants round by about that."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle that is ready to score."""

    scorer: Scorer
    batcher: MicroBatcher

    @property
    def label(self) -> str:
        """`name@version`."""
        return self.scorer.bundle.label

    @property
    def digest(self) -> str:
        """SHA-256 that identifies the bundle."""
        return self.scorer.bundle.digest


class ModelHost:
    """Holds the bundle in use. A request scores under a `lease`; `swap` exchanges the bundle for the next ones and closes the
    old one when its last lease has ended."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._path = settings.bundle
        self._swapping = threading.Lock()
        self._changed = threading.Condition()
        self._leases: dict[int, int] = {}
        self._refused_digest: str | None = None
        self.swaps = self.refused = 0
        self.last_error: str | None = None
        self.current = self._load(settings.bundle)

    @property
    def alive(self) -> bool:
        """Whether the threads that score live."""
        return self.current.batcher.alive

    @contextmanager
    def lease(self) -> Iterator[Loaded]:
        """The bundle in use, which stays open as long as the block runs."""
        with self._changed:
            model = self.current
            self._leases[id(model)] = self._leases.get(id(model), 0) + 1
        try:
            yield model
        finally:
            with self._changed:
                self._leases[id(model)] -= 1
                self._changed.notify_all()

    def swap(self, path: Path | None = None) -> Loaded:
        """Load the bundle in `path` (by default where the one in use came from), test it, and let it take over; requests
        that the old one has are answered by it.

        :raises BundleError: if the new bundle is not usable; the old one stays.
        """
        with self._swapping:
            place = path or self._path
            try:
                new = self._load(place)
            except Exception as error:
                self._refuse(place, error)
                give_memory_back()
                if isinstance(error, MerchantGuardError):
                    raise
                raise BundleError(f"{place}: cannot be used ({type(error).__name__}: {error})") from error
            with self._changed:
                old, self.current = self.current, new
            self._path, self.last_error = place, None
            self.swaps += 1
            self._close(old)
            del old
            give_memory_back()
        _LOGGER.info("bundle in use: %s %s", new.label, new.digest[:12])
        return new

    def _refuse(self, place: Path, error: Exception) -> None:
        self.refused += 1
        self.last_error = str(error)
        self._refused_digest = _digest(place)
        _LOGGER.error("bundle refused, %s stays: %s", self.current.label, error)

    def _close(self, old: Loaded) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._leases.get(id(old)), timeout=_LONGEST_LEASE)
            self._leases.pop(id(old), None)
        old.batcher.close()

    def changed(self) -> bool:
        """Whether the folder of the bundle holds another one than is in use, that has not been refused."""
        digest = _digest(self._path)
        return digest not in (None, self.current.digest, self._refused_digest)

    def close(self, *, drain: bool = True) -> None:
        """Answer what waits, or drop it."""
        self.current.batcher.close(drain=drain)

    def _load(self, path: Path) -> Loaded:
        scorer = Scorer.load(
            path,
            threads=self._settings.threads,
            variant=self._settings.variant,
            cascade=self._settings.cascade,
        )
        check_golden(scorer)
        return Loaded(scorer, MicroBatcher(scorer, queue_tokens=self._settings.queue_tokens))


def _digest(path: Path) -> str | None:
    """The digest that a bundle states, checked or not; None while it cannot be read."""
    try:
        return str(read_json(path / DOCUMENT)["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_golden(scorer: Scorer) -> None:
    """Score the bundle's golden texts, which also warms it up, and compare.

    :raises BundleError: naming the first text whose result differs.
    """
    path = scorer.bundle.path / "golden.jsonl"
    rows = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )
    if not rows:
        raise BundleError(
            f"{path}: missing or empty; the service does not start without a test of the bundle"
        )
    for number, (row, found) in enumerate(
        zip(rows, scorer.assess_many(row["text"] for row in rows), strict=True), 1
    ):
        _compare(found, row, f"{path}: row {number}")


def _compare(found: Assessment, row: dict[str, object], place: str) -> None:
    if found.cleared_early:
        return
    wanted = row["probabilities"]
    expected = np.array(list(wanted.values()) if isinstance(wanted, dict) else wanted, dtype=np.float64)
    if not np.isfinite(found.probabilities).all():
        raise BundleError(
            f"{place}: probabilities are not finite; the graph does not run right on this machine"
        )
    difference = float(np.abs(found.probabilities - expected).max())
    if difference > _TOLERANCE:
        raise BundleError(
            f"{place}: a probability differs by {difference:.3f} from what the bundle states; it is damaged, or does "
            "not run right on this machine"
        )


def give_memory_back() -> None:
    """Return freed memory to the system: ONNX Runtime frees it, and the C library keeps it."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        _LOGGER.debug("the C library has no malloc_trim")

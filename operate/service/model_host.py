"""The model behind the service: loaded, tested by its own golden texts, and exchanged without losing a request."""

import ctypes
import gc
import json
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.errors import BundleError, MerchantGuardError
from ...serve import Assessment, MicroBatcher, Scorer
from ...serve.bundle_reader import read_bundle
from .settings import ServiceSettings

_LOGGER = logging.getLogger("merchantguard.service")
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
    """Holds the bundle in use. Readers take `current` once a request and keep it; `swap` exchanges it for the next ones."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._swapping = threading.Lock()
        self.swaps = self.refused = 0
        self.last_error: str | None = None
        self.current = self._load(settings.bundle)

    def swap(self, path: Path | None = None) -> Loaded:
        """Load the bundle in `path` (by default the one the service began with), test it, and let it take over; requests
        that the old one has are answered by it.

        :raises BundleError: if the new bundle is not usable; the old one stays.
        """
        with self._swapping:
            try:
                new = self._load(path or self._settings.bundle)
            except MerchantGuardError as error:
                self.refused += 1
                self.last_error = str(error)
                _LOGGER.error("bundle refused, %s stays: %s", self.current.label, error)
                raise
            old, self.current = self.current, new
            self.swaps += 1
            self.last_error = None
        old.batcher.close()
        del old
        give_memory_back()
        _LOGGER.info("bundle in use: %s %s", new.label, new.digest[:12])
        return new

    def changed(self) -> bool:
        """Whether the folder of the bundle holds another one than is in use, complete or not."""
        try:
            return read_bundle(self._settings.bundle).digest != self.current.digest
        except MerchantGuardError:
            return False  # it is being written; or damaged, which `swap` would refuse as well

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
        test_by_golden(scorer)
        return Loaded(scorer, MicroBatcher(scorer, queue_tokens=self._settings.queue_tokens))


def test_by_golden(scorer: Scorer) -> None:
    """Score the bundle's golden texts, which also warms it up, and compare.

    :raises BundleError: naming the first text whose result differs.
    """
    path = scorer.bundle.path / "golden.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    if not rows:
        raise BundleError(f"{path}: missing or empty; the service does not start without a test of the bundle")
    for number, (row, found) in enumerate(zip(rows, scorer.assess_many(row["text"] for row in rows), strict=True), 1):
        _compare(found, row, f"{path}: row {number}")


def _compare(found: Assessment, row: dict[str, object], place: str) -> None:
    if found.cleared_early:
        return
    wanted = row["probabilities"]
    expected = np.array(list(wanted.values()) if isinstance(wanted, dict) else wanted, dtype=np.float64)
    if not np.isfinite(found.probabilities).all():
        raise BundleError(f"{place}: probabilities are not finite; the graph does not run right on this machine")
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

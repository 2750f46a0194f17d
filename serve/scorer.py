"""From text to assessments."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.errors import BundleError
from ..data.text import CleanText, clean
from ..data.windows import Windows, WindowTokenizer
from .assessment import Assessment, Finding, Span, any_violation
from .batching import chunked, run_windows
from .bundle import TOKENIZER, Bundle, BundlePolicy, read_bundle
from .decision import calibrate, decide, pool, strictest
from .evidence import EvidenceOptions, find_spans
from .session import Floats, Model, OnnxModel

BATCH_TOKENS = 4096
_TEXTS_AT_ONCE = 256
_CHARACTERS_AT_ONCE = 4_000_000
_WINDOWS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Reading:
    """A text on its way through the model: cleaned and cut into windows."""

    raw: str
    clean: CleanText
    windows: Windows


class Scorer:
    """Assesses texts with one bundle. It keeps no state between calls: threads may share it."""

    def __init__(
        self,
        bundle: Bundle,
        model: Model,
        tokenizer: WindowTokenizer,
        *,
        evidence: EvidenceOptions | None = None,
    ) -> None:
        """Score with a model that is already there; `Scorer.load` is the usual way in."""
        self.bundle = bundle
        self._model = model
        self._tokenizer = tokenizer
        self._evidence = evidence or EvidenceOptions()
        self._scale, self._bias = bundle.calibration()

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        threads: int | None = None,
        variant: str | None = None,
        evidence: EvidenceOptions | None = None,
    ) -> "Scorer":
        """Read and check the bundle in folder `path`.

        :param threads: cores that one run of the model uses; all of them when None.
        :param variant: which of the bundle's graphs; None takes the fused one where there is one, "plain"
            is model.onnx.
        :raises BundleError: if the bundle is damaged, incomplete or of another version.
        """
        bundle = read_bundle(path)
        graph = bundle.graph(variant)
        model = OnnxModel(graph, pooling=bundle.pooling, policies=len(bundle.policies), threads=threads)
        return cls(bundle, model, load_tokenizer(bundle), evidence=evidence)

    @property
    def policies(self) -> tuple[BundlePolicy, ...]:
        """The policies, in the order of `Assessment.probabilities`."""
        return self.bundle.policies

    def assess(self, text: str) -> Assessment:
        """Assess one text; an empty one is assessed too.

        :raises TypeError: if `text` is not a str.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, not {type(text).__name__}")
        return self._assess_chunk([text], BATCH_TOKENS)[0]

    def assess_many(
        self,
        texts: Iterable[str],
        *,
        batch_tokens: int = BATCH_TOKENS,
        texts_at_once: int = _TEXTS_AT_ONCE,
    ) -> Iterator[Assessment]:
        """Assess texts lazily, in their order; `texts` may be endless.

        :param batch_tokens: tokens, padding included, that go through the model at once.
        :param texts_at_once: how many texts are read ahead and sorted by length (fewer, when they are long).
        :raises TypeError: naming the index of what is not a str, after what came before it is assessed.
        """
        if isinstance(texts, str | bytes):
            raise TypeError(f"texts must be an iterable of str, not {type(texts).__name__}; see assess")
        if batch_tokens < 1 or texts_at_once < 1:
            raise ValueError(
                f"batch_tokens {batch_tokens} and texts_at_once {texts_at_once} must be positive"
            )
        return self._assess_lazily(texts, batch_tokens, texts_at_once)

    def _assess_lazily(
        self, texts: Iterable[str], batch_tokens: int, texts_at_once: int
    ) -> Iterator[Assessment]:
        chunks = chunked(texts, texts_at_once=texts_at_once, characters_at_once=_CHARACTERS_AT_ONCE)
        for chunk in chunks:
            yield from self._assess_chunk(chunk, batch_tokens)

    def _assess_chunk(self, texts: Sequence[str], batch_tokens: int) -> list[Assessment]:
        readings = self._read(texts)
        ids = [window.ids for reading in readings for window in reading.windows.windows]
        logits, scores = self._run(ids, batch_tokens)
        ends = np.cumsum([len(reading.windows.windows) for reading in readings])[:-1]
        by_text = np.split(logits, ends)
        scores_by_text = [None] * len(readings) if scores is None else np.split(scores, ends)
        return [
            self._conclude(reading, window_logits, window_scores, batch_tokens)
            for reading, window_logits, window_scores in zip(readings, by_text, scores_by_text, strict=True)
        ]

    def _read(self, texts: Sequence[str]) -> list[_Reading]:
        cleaned = [clean(text) for text in texts]
        windows = self._tokenizer.encode_batch([text.text for text in cleaned])
        return [_Reading(*parts) for parts in zip(texts, cleaned, windows, strict=True)]

    def _run(self, ids: Sequence[Sequence[int]], batch_tokens: int) -> tuple[Floats, Floats | None]:
        return run_windows(
            self._model,
            ids,
            pad_id=self._tokenizer.pad_id,
            batch_tokens=batch_tokens,
            window_tokens=self.bundle.window_tokens,
        )

    def _conclude(
        self, reading: _Reading, logits: Floats, scores: Floats | None, batch_tokens: int
    ) -> Assessment:
        """The assessment of one text from the logits (W, K) and scores of its windows."""
        probabilities = calibrate(pool(logits, scores), self._scale, self._bias)
        decisions = [
            decide(float(probability), policy.review, policy.block)
            for probability, policy in zip(probabilities, self.policies, strict=True)
        ]
        if any_violation(probabilities) < self.bundle.any_review:
            decisions = ["clear" if decision == "review" else decision for decision in decisions]
        order = np.argsort(-probabilities, kind="stable").tolist()
        found = [row for row in order if decisions[row] != "clear"]
        spans = self._find_spans(reading, logits, found, batch_tokens)
        return Assessment(
            decision=strictest(decisions),
            probabilities=probabilities,
            findings=tuple(
                Finding(
                    policy=self.policies[row].id,
                    probability=float(probabilities[row]),
                    decision=decisions[row],
                    spans=spans[row],
                    windows=self._carrying_windows(reading, logits, row),
                )
                for row in found
            ),
            windows=len(reading.windows.windows),
            truncated=reading.windows.truncated,
            bundle=self.bundle.label,
        )

    def _carrying_windows(
        self, reading: _Reading, logits: Floats, policy: int
    ) -> tuple[tuple[int, int], ...]:
        """The best window for a policy, and the next ones that pass its review threshold by themselves."""
        order = np.argsort(-logits[:, policy], kind="stable")[:_WINDOWS_SHOWN]
        alone = calibrate(logits, self._scale, self._bias)[:, policy]
        kept = [row for row in order if row == order[0] or alone[row] >= self.policies[policy].review]
        windows = [reading.windows.windows[row] for row in kept]
        return tuple(
            reading.clean.original_span(window.start, window.end)
            for window in windows
            if window.start < window.end
        )

    def _find_spans(
        self, reading: _Reading, logits: Floats, found: Sequence[int], batch_tokens: int
    ) -> dict[int, tuple[Span, ...]]:
        """Evidence spans of each found policy, in its best window."""

        def score(texts: Sequence[str]) -> Floats:
            windows = self._tokenizer.encode_batch(texts)
            return self._run([each.windows[0].ids for each in windows], batch_tokens)[0]

        if self._evidence.spans < 1:
            return dict.fromkeys(found, ())
        by_window: dict[int, list[int]] = {}
        for policy in found:
            by_window.setdefault(int(logits[:, policy].argmax()), []).append(policy)
        spans: dict[int, tuple[Span, ...]] = {}
        for row, policies in by_window.items():
            window = reading.windows.windows[row]
            text = reading.clean.text[window.start : window.end]
            ranges = find_spans(text, logits[row], policies, score=score, options=self._evidence)
            for policy, passages in zip(policies, ranges, strict=True):
                spans[policy] = tuple(_original(reading, window.start, *passage) for passage in passages)
        return spans


def load_tokenizer(bundle: Bundle) -> WindowTokenizer:
    """The bundle's tokenizer with the window sizes the model was trained with.

    :raises BundleError: if tokenizer.json is no tokenizer.
    """
    path = bundle.path / TOKENIZER
    try:
        return WindowTokenizer.from_file(
            path,
            window_tokens=bundle.window_tokens,
            stride_tokens=bundle.stride_tokens,
            max_windows=bundle.max_windows,
        )
    except Exception as error:  # the tokenizers library raises bare Exception
        raise BundleError(f"{path}: cannot be used as a tokenizer ({error})") from error


def _original(reading: _Reading, offset: int, start: int, end: int) -> Span:
    start, end = reading.clean.original_span(offset + start, offset + end)
    return Span(start, end, reading.raw[start:end])

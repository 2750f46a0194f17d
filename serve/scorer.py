"""From text to assessments."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ..core.errors import BundleError
from ..data.windows import WindowTokenizer
from .assessment import Assessment
from .bundle import TOKENIZER, Bundle, BundlePolicy, read_bundle
from .cascade import Cascade
from .engine.batching import Running, WindowRunner, chunked
from .engine.onnx_model import Floats, Model
from .engine.variants import choose_variant, open_variant
from .engine.workers import Workers, usable_cores
from .evidence import EvidenceOptions
from .postprocess import Concluder, WindowLogits, by_text
from .preprocess import Reading, read_texts
from .result_cache import Repeats

# ONNX Runtime gains nothing from more on a CPU, and short batches keep the workers equally busy.
BATCH_TOKENS = 512
TEXTS_AT_ONCE = 512
_CHARACTERS_AT_ONCE = 4_000_000
_REMEMBERED = 4096
# Letters that hardly a tokenizer knows: one that has lost its token for the unknown fails only at these.
_UNKNOWN = "\ua66e \U00013080 \U000f0000"


class Scorer:
    """Assesses texts with one bundle. It keeps no texts between calls: threads may share it."""

    def __init__(
        self,
        bundle: Bundle,
        model: Model,
        tokenizer: WindowTokenizer,
        *,
        evidence: EvidenceOptions | None = None,
        workers: int = 1,
        variant: str = "plain",
        cascade: Cascade | None = None,
    ) -> None:
        """Score with a model that is already there; `Scorer.load` is the usual way in."""
        self.bundle = bundle
        self.variant = variant
        self.tokenizer = tokenizer
        self.cascade = cascade
        self.runner = WindowRunner(
            model, Workers(workers), pad_id=tokenizer.pad_id, window_tokens=bundle.window_tokens
        )
        self.concluder = Concluder(bundle, tokenizer, evidence or EvidenceOptions())

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        threads: int | Literal["auto"] | None = "auto",
        variant: str = "auto",
        provider: str | None = None,
        cascade: float | None = None,
        evidence: EvidenceOptions | None = None,
    ) -> "Scorer":
        """Read and check the bundle in folder `path`.

        :param threads: cores to use; "auto" (or None) takes all that the process may use.
        :param variant: which of the bundle's variants; "auto" takes the fastest that this machine supports
            (`scorer.variant` says which), "plain" is model.onnx as any ONNX Runtime runs it.
        :param provider: run model.onnx by this execution provider of ONNX Runtime instead of the CPU's, such as
            "CUDAExecutionProvider"; give `assess_many` more `batch_tokens` then.
        :param cascade: let a cheap first stage clear what is surely compliant, losing at most this share of
            violating texts, by the bundle's certificate (`scorer.cascade.certificate`); such texts have no probabilities.
        :raises BundleError: if the bundle is damaged, incomplete or of another version, or lacks the variant.
        """
        workers = usable_cores() if threads in (None, "auto") else int(threads)
        bundle = read_bundle(path)
        if provider is not None and variant == "auto":
            variant = "plain"
        chosen = choose_variant(bundle, variant)
        tokenizer = load_tokenizer(bundle)
        first = None
        if cascade is not None:
            first = Cascade.load(bundle, loss=cascade, workers=workers, pad_id=tokenizer.pad_id)
        return cls(
            bundle.for_variant(chosen.name),
            open_variant(bundle, chosen, workers=workers, provider=provider),
            tokenizer,
            evidence=evidence,
            workers=workers,
            variant=chosen.name,
            cascade=first,
        )

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
        scoring = self._begin(read_texts([text], self.tokenizer), BATCH_TOKENS)
        return self._conclude(scoring, BATCH_TOKENS)[0]

    def assess_many(
        self,
        texts: Iterable[str],
        *,
        batch_tokens: int = BATCH_TOKENS,
        texts_at_once: int = TEXTS_AT_ONCE,
        remember: int = _REMEMBERED,
    ) -> Iterator[Assessment]:
        """Assess texts lazily, in their order; `texts` may be endless.

        :param batch_tokens: tokens, padding included, that go through the model at once.
        :param texts_at_once: how many texts are sorted by length together (fewer, when they are long); as
            many again are read ahead.
        :param remember: a text equal to one of the last so many gets that one's assessment, unscored.
        :raises TypeError: naming the index of what is not a str, after what came before it is assessed.
        """
        if isinstance(texts, str | bytes):
            raise TypeError(f"texts must be an iterable of str, not {type(texts).__name__}; see assess")
        if batch_tokens < 1 or texts_at_once < 1 or remember < 0:
            raise ValueError(
                f"batch_tokens {batch_tokens} and texts_at_once {texts_at_once} must be positive, "
                f"remember {remember} not negative"
            )
        chunks = chunked(texts, texts_at_once=texts_at_once, characters_at_once=_CHARACTERS_AT_ONCE)
        return self._assess_lazily(chunks, batch_tokens, Repeats(remember))

    def _assess_lazily(
        self, chunks: Iterator[list[str]], batch_tokens: int, repeats: Repeats
    ) -> Iterator[Assessment]:
        """While one chunk goes through the model the next is read, and while it is concluded the next goes through."""
        waiting: _Chunk | None = None
        while True:
            fault: Exception | None = None
            upcoming: _Chunk | None = None
            try:
                # In the caller's own thread: an iterator may belong to it (a database cursor, say).
                texts = next(chunks, None)
            except Exception as error:  # noqa: BLE001
                fault = error  # raised below, once what came before it is handed out
            else:
                upcoming = None if texts is None else self._start(texts, repeats)
            if waiting is not None and waiting.scoring is not None:
                waiting.scoring.windows.wait()
            if upcoming is not None:
                upcoming.scoring = self._begin(upcoming.reading.result(), batch_tokens)
            if waiting is not None and waiting.scoring is not None:
                repeats.learn(waiting.fresh, self._conclude(waiting.scoring, batch_tokens))
                yield from [repeats.recall(text) for text in waiting.texts]
                repeats.forget(keep=len(upcoming.texts) if upcoming else 0)
            if fault is not None:
                raise fault
            if upcoming is None:
                return
            waiting = upcoming

    def _start(self, texts: list[str], repeats: Repeats) -> "_Chunk":
        """Let a worker read those texts of a chunk that did not come before."""
        fresh = repeats.fresh(texts)
        read = partial(read_texts, tokenizer=self.tokenizer)
        return _Chunk(texts, fresh, self.runner.workers.submit(read, fresh))

    def _begin(self, readings: Sequence[Reading], batch_tokens: int) -> "_Scoring":
        """Clear early what the cascade clears, and send the windows of the others through the model."""
        early = self.clear_early(readings)
        left = [reading for reading, cleared in zip(readings, early, strict=True) if cleared is None]
        ids = [window for reading in left for window in reading.ids]
        return _Scoring(early, left, self.runner.start(ids, batch_tokens=batch_tokens))

    def _conclude(self, scoring: "_Scoring", batch_tokens: int) -> list[Assessment]:
        """Assessments of the texts, in their order."""

        def logits_of(ids: Sequence[Sequence[int]]) -> Floats:
            return self.runner.run(ids, batch_tokens=batch_tokens).logits

        verdicts = [self.concluder.judge(text) for text in scoring.by_text()]
        scored = iter(self.concluder.conclude(verdicts, logits_of))
        return [next(scored) if cleared is None else cleared for cleared in scoring.early]

    def clear_early(self, readings: Sequence[Reading]) -> list[Assessment | None]:
        """Assessments of the texts that the cascade's first stage clears; None for the others, or without a cascade."""
        if self.cascade is None or not readings:
            return [None] * len(readings)
        clears = self.cascade.clears(readings)
        return [
            self.concluder.clear_early(reading) if clear else None
            for reading, clear in zip(readings, clears, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Scoring:
    """Texts of which some are cleared early and the windows of the others, `left`, are on their way."""

    early: list[Assessment | None]
    left: list[Reading]
    windows: Running

    def by_text(self) -> list[WindowLogits]:
        """Each text that is left with what the model says of its windows."""
        return by_text(self.left, self.windows.result()) if self.left else []


@dataclass(slots=True)
class _Chunk:
    """Texts that are sorted by length together, those of them that did not come before, and their reading."""

    texts: list[str]
    fresh: list[str]
    reading: Future[list[Reading]]
    scoring: _Scoring | None = None


def load_tokenizer(bundle: Bundle) -> WindowTokenizer:
    """The bundle's tokenizer with the window sizes the model was trained with.

    :raises BundleError: if tokenizer.json is no tokenizer, or none that can read every letter.
    """
    path = bundle.path / TOKENIZER
    try:
        tokenizer = WindowTokenizer.from_file(
            path,
            window_tokens=bundle.window_tokens,
            stride_tokens=bundle.stride_tokens,
            max_windows=bundle.max_windows,
        )
        tokenizer.encode(_UNKNOWN)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # bare Exception from the tokenizers library; its panics are not even that
        raise BundleError(f"{path}: cannot be used as a tokenizer ({error})") from error
    return tokenizer

"""From text to assessments."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from ..core.errors import BundleError
from ..data.site_text import SiteText
from ..data.windows import WindowTokenizer
from .assessment import Assessment, Span
from .bundle import TOKENIZER, Bundle, BundlePolicy
from .bundle_reader import read_bundle
from .cascade import Cascade
from .engine.batching import Running, WindowRunner, chunked
from .engine.onnx_model import Floats, Model
from .engine.variants import choose_variant, open_variant
from .engine.workers import Workers, thread_count
from .evidence import EvidenceOptions
from .postprocess import Postprocessor
from .preprocess import EncodedText, TextOutputs, encode_texts, outputs_by_text
from .result_cache import ResultCache
from .warnings import LANGUAGE

# ONNX Runtime gains nothing from more on a CPU, and short batches keep the workers equally busy.
BATCH_TOKENS = 512
TEXTS_AT_ONCE = 512
_CHARACTERS_AT_ONCE = 4_000_000
_REMEMBERED = 4096
# Letters that hardly any tokenizer knows: one that has lost its token for unknown letters fails only at these.
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
        """Score with a model that is already open; `Scorer.load` is the usual way in."""
        self.bundle = bundle
        self.variant = variant
        self.tokenizer = tokenizer
        self.cascade = cascade
        self.evidence = evidence or EvidenceOptions()
        self.runner = WindowRunner(
            model, Workers(workers), pad_id=tokenizer.pad_id, window_tokens=bundle.window_tokens
        )
        self._postprocessor = Postprocessor(bundle, tokenizer, self.evidence)

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

        :param threads: cores to use; "auto" (None, 0) takes all that the process may use.
        :param variant: which of the bundle's variants; "auto" takes the fastest that this machine supports
            (`scorer.variant` names it), "plain" is model.onnx as any ONNX Runtime runs it.
        :param provider: run model.onnx by this execution provider of ONNX Runtime instead of the CPU's, such as
            "CUDAExecutionProvider"; give `assess_many` more `batch_tokens` then.
        :param cascade: let a cheap first stage clear what is surely compliant, losing at most this share of
            violating texts, by the bundle's certificate (`scorer.cascade.certificate`); such texts have no probabilities.
        :raises BundleError: if the bundle is damaged, incomplete or of another version, or lacks the variant.
        :raises ValueError: if `threads` is negative.
        """
        workers = thread_count(threads)
        bundle = read_bundle(path)
        if provider is not None and variant == "auto":
            variant = "plain"
        chosen = choose_variant(bundle, variant)
        tokenizer = load_tokenizer(bundle)
        first_stage = None
        if cascade is not None:
            first_stage = Cascade.load(bundle, loss=cascade, workers=workers, pad_id=tokenizer.pad_id)
        return cls(
            bundle.for_variant(chosen.name),
            open_variant(bundle, chosen, workers=workers, provider=provider),
            tokenizer,
            evidence=evidence,
            workers=workers,
            variant=chosen.name,
            cascade=first_stage,
        )

    @property
    def policies(self) -> tuple[BundlePolicy, ...]:
        """The policies, in the order of `Assessment.probabilities`."""
        return self.bundle.policies

    def assess(self, text: str) -> Assessment:
        """Assess one text; an empty one is assessed too.

        :raises TypeError: if `text` is not a str.
        """
        scoring = self._begin(encode_texts([_checked(text)], self.tokenizer), BATCH_TOKENS)
        return self._finish(scoring, BATCH_TOKENS)[0]

    def assess_many(
        self,
        texts: Iterable[str | SiteText],
        *,
        batch_tokens: int = BATCH_TOKENS,
        texts_at_once: int = TEXTS_AT_ONCE,
        remember: int = _REMEMBERED,
    ) -> Iterator[Assessment]:
        """Assess texts lazily, in their order; `texts` may be endless. Of a `SiteText`, what pages repeat is read once.

        :param batch_tokens: tokens, padding included, of one run of the model.
        :param texts_at_once: how many texts are sorted by length together (fewer, when they are long); as
            many again are read ahead.
        :param remember: a text equal to one of the last so many different ones gets its assessment without scoring.
        :raises TypeError: naming the index of what is not a str, after the texts before it are assessed.
        :raises ValueError: if a number is out of range.
        """
        if isinstance(texts, str | bytes):
            raise TypeError(f"texts must be an iterable of str, not {type(texts).__name__}; see assess")
        if batch_tokens < 1 or texts_at_once < 1 or remember < 0:
            raise ValueError(
                f"batch_tokens {batch_tokens} and texts_at_once {texts_at_once} must be positive, "
                f"remember {remember} not negative"
            )
        chunks = chunked(texts, texts_at_once=texts_at_once, characters_at_once=_CHARACTERS_AT_ONCE)
        return self._assess_lazily(chunks, batch_tokens, ResultCache(remember))

    def evidence_for(self, text: str, policy: str) -> tuple[Span, ...]:
        """The passages of `text` that speak most for a policy, best first, whatever its probability and thresholds.

        :raises TypeError: if `text` is not a str.
        :raises ValueError: if the bundle has no such policy.
        """
        ids = [each.id for each in self.policies]
        if policy not in ids:
            raise ValueError(f"{policy!r} is not a policy of {self.bundle.label}")
        [outputs] = self._run_texts(encode_texts([_checked(text)], self.tokenizer))
        run = partial(self._run_windows, batch_tokens=BATCH_TOKENS)
        return self._postprocessor.evidence_for(outputs, ids.index(policy), run)

    def logits(self, texts: Sequence[str]) -> Floats:
        """Logits (N, K) of texts, pooled over their windows, before calibration; a cascade clears none of them."""
        if not texts:
            return np.empty((0, len(self.policies)), dtype=np.float32)
        return np.stack([each.pooled for each in self._run_texts(encode_texts(texts, self.tokenizer))])

    def clear_early(self, texts: Sequence[EncodedText]) -> list[Assessment | None]:
        """Assessments of the texts that the cascade's first stage clears; None for the others, or without a cascade."""
        if self.cascade is None or not texts:
            return [None] * len(texts)
        early = [
            self._postprocessor.clear_early(encoded) if clear else None
            for encoded, clear in zip(texts, self.cascade.clears(texts), strict=True)
        ]
        # The first stage is certified on texts that the model reads.
        return [None if each is not None and LANGUAGE in each.warnings else each for each in early]

    def _assess_lazily(
        self, chunks: Iterator[list[str | SiteText]], batch_tokens: int, cache: ResultCache
    ) -> Iterator[Assessment]:
        """While one chunk goes through the model the next is encoded; while it is assessed the next goes through."""
        encode = partial(encode_texts, tokenizer=self.tokenizer)
        chunk: _Chunk | None = None
        while True:
            texts, fault = _next_chunk(chunks)
            missing = cache.missing(texts or [])
            encoding = self.runner.workers.submit(encode, missing)
            if chunk is not None:
                chunk.scoring.windows.wait()
            upcoming = None
            if texts is not None:
                upcoming = _Chunk(texts, missing, self._begin(encoding.result(), batch_tokens))
            if chunk is not None:
                cache.put(chunk.missing, self._finish(chunk.scoring, batch_tokens))
                yield from [cache.get(text) for text in chunk.texts]
                cache.evict(keep=len(upcoming.texts) if upcoming else 0)
            if fault is not None:
                raise fault
            if upcoming is None:
                return
            chunk = upcoming

    def _begin(self, texts: Sequence[EncodedText], batch_tokens: int) -> "_Scoring":
        """Clear early what the cascade clears, and send the windows of the others through the model."""
        early = self.clear_early(texts)
        left = [encoded for encoded, cleared in zip(texts, early, strict=True) if cleared is None]
        ids = [window for encoded in left for window in encoded.ids]
        return _Scoring(early, left, self.runner.start(ids, batch_tokens=batch_tokens))

    def _finish(self, scoring: "_Scoring", batch_tokens: int) -> list[Assessment]:
        """Assessments of the texts, in their order."""
        scored = [self._postprocessor.score(outputs) for outputs in scoring.outputs()]
        run = partial(self._run_windows, batch_tokens=batch_tokens)
        assessments = iter(self._postprocessor.assess(scored, run))
        return [next(assessments) if cleared is None else cleared for cleared in scoring.early]

    def _run_texts(self, texts: Sequence[EncodedText]) -> list[TextOutputs]:
        windows = [ids for encoded in texts for ids in encoded.ids]
        return outputs_by_text(texts, self.runner.run(windows, batch_tokens=BATCH_TOKENS))

    def _run_windows(self, windows: Sequence[Sequence[int]], *, batch_tokens: int) -> Floats:
        return self.runner.run(windows, batch_tokens=batch_tokens).logits


@dataclass(frozen=True, slots=True)
class _Scoring:
    """Texts of which some are cleared early; the windows of the others, `left`, are on their way through the model."""

    early: list[Assessment | None]
    left: list[EncodedText]
    windows: Running

    def outputs(self) -> list[TextOutputs]:
        """The model's outputs for each text that is left."""
        return outputs_by_text(self.left, self.windows.result()) if self.left else []


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Texts that are sorted by length together; of these, `missing` are scored, the others are cached."""

    texts: list[str | SiteText]
    missing: list[str | SiteText]
    scoring: _Scoring


def _next_chunk(
    chunks: Iterator[list[str | SiteText]],
) -> tuple[list[str | SiteText] | None, Exception | None]:
    """The next chunk, None after the last, and what the caller's iterator raised: earlier texts are given out first.

    To be called in the caller's own thread: the iterator may belong to it (a database cursor, say).
    """
    try:
        return next(chunks, None), None
    except Exception as error:  # noqa: BLE001
        return None, error


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    return text


def load_tokenizer(bundle: Bundle) -> WindowTokenizer:
    """The bundle's tokenizer with the window sizes the model was trained with.

    :raises BundleError: if tokenizer.json is not a tokenizer, or is one that cannot read every letter.
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

"""Cutting clean text into overlapping windows of tokens, in the same way for training and for scoring."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from ..core.errors import MerchantGuardError, SettingsError

# Prose has four to five characters a token; text beyond sixteen is cut before it costs anything.
_CHARACTERS_PER_TOKEN = 16
_PAD_TOKENS = ("[PAD]", "<pad>", "<|padding|>", "<|pad|>")


@dataclass(frozen=True, slots=True)
class Window:
    """Up to `window_tokens` tokens of a text, special tokens included.

    `offsets` are characters of the clean text, one pair for each id; special tokens have (0, 0).
    """

    ids: list[int]
    offsets: list[tuple[int, int]]

    @property
    def start(self) -> int:
        """First character of the text in this window; 0 where the window holds no text."""
        return min((start for start, end in self.offsets if end > start), default=0)

    @property
    def end(self) -> int:
        """Character after the last one of the text in this window; 0 where the window holds no text."""
        return max((end for start, end in self.offsets if end > start), default=0)


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of one text in reading order, at least one; `truncated` says that some of the text is in none."""

    windows: list[Window]
    truncated: bool


class WindowTokenizer:
    """Turns text into windows; safe to use from several threads, because nothing changes after construction.

    :param tokenizer: not changed; its own truncation and padding settings are not used.
    :param window_tokens: most tokens of a window, including special ones.
    :param stride_tokens: tokens that a window shares with the one before it.
    :param max_windows: most windows of a text; the rest of the text is not read.
    :raises SettingsError: if the numbers do not fit together.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, window_tokens: int, stride_tokens: int, max_windows: int
    ) -> None:
        special = tokenizer.num_special_tokens_to_add(False)
        faults = []
        if window_tokens <= special:
            faults.append(f"window_tokens is {window_tokens}: must exceed the {special} special tokens")
        elif not 0 <= stride_tokens < window_tokens - special:
            faults.append(
                f"stride_tokens is {stride_tokens}: must be 0 to {window_tokens - special - 1}, "
                f"so that each window of {window_tokens} tokens moves forward"
            )
        if max_windows < 1:
            faults.append(f"max_windows is {max_windows}: must be at least 1")
        if faults:
            raise SettingsError("; ".join(faults))
        self.window_tokens = window_tokens
        self.stride_tokens = stride_tokens
        self.max_windows = max_windows
        self.pad_id = _pad_id(tokenizer)
        self._most_characters = _CHARACTERS_PER_TOKEN * max_windows * window_tokens
        self._tokenizer = _private_copy(tokenizer)
        self._room = window_tokens - special

    @classmethod
    def from_file(
        cls, path: Path, *, window_tokens: int, stride_tokens: int, max_windows: int
    ) -> "WindowTokenizer":
        """Read a `tokenizer.json`.

        :raises MerchantGuardError: if the file is missing or is not a tokenizer.
        :raises SettingsError: if the numbers do not fit together.
        """
        try:
            tokenizer = Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
        except Exception as error:  # the library raises plain Exception for any fault in the content
            raise MerchantGuardError(f"{path}: cannot be read as a tokenizer.json ({error})") from error
        return cls(
            tokenizer, window_tokens=window_tokens, stride_tokens=stride_tokens, max_windows=max_windows
        )

    @property
    def pieces(self) -> list[str]:
        """The token of each id, as the tokenizer writes it; empty where an id is not used."""
        by_id = {number: token for token, number in self._tokenizer.get_vocab().items()}
        return [by_id.get(number, "") for number in range(max(by_id) + 1)]

    def encode(self, text: str) -> Windows:
        """Windows of one clean text; an empty text gives one window of special tokens only."""
        kept = text[: self._most_characters]
        return self._windows(self._tokenizer.encode(kept), cut=self._is_cut(text))

    def encode_batch(
        self, texts: Sequence[str], hidden_from: Sequence[int | None] | None = None
    ) -> list[Windows]:
        """Windows of each text, in order; the library spreads the texts over its threads.

        :param hidden_from: where in each text begins what no visitor sees, None where all is seen. No window holds
            both; the hidden text gets a quarter of the windows at most, and the seen text what is left.
        """
        if hidden_from is not None and any(start is not None for start in hidden_from):
            return self._encode_parts(texts, hidden_from)
        kept = [text[: self._most_characters] for text in texts]
        encodings = self._tokenizer.encode_batch(kept)
        return [
            self._windows(encoding, cut=self._is_cut(text))
            for encoding, text in zip(encodings, texts, strict=True)
        ]

    def _encode_parts(self, texts: Sequence[str], hidden_from: Sequence[int | None]) -> list[Windows]:
        seen = [text[:start] for text, start in zip(texts, hidden_from, strict=True)]
        hidden = [
            (text[start:], start) for text, start in zip(texts, hidden_from, strict=True) if start is not None
        ]
        whole = self.encode_batch([*seen, *(text for text, _ in hidden)])
        behind = iter(zip(whole[len(seen) :], hidden, strict=True))
        return [
            windows if start is None else self._joined(windows, *next(behind), text=text)
            for text, windows, start in zip(seen, whole[: len(seen)], hidden_from, strict=True)
        ]

    def _joined(self, seen: Windows, hidden: Windows, place: tuple[str, int], *, text: str) -> Windows:
        """The windows of a text that is seen and of what is hidden behind it, at `place`."""
        share = max(1, self.max_windows // 4)
        behind = hidden.windows[:share]
        if not place[0].strip():
            return seen
        front = seen.windows[: self.max_windows - len(behind)] if text.strip() else []
        left = len(front) < len(seen.windows) and bool(text.strip())
        shifted = [
            Window(w.ids, [(a + place[1], b + place[1]) if b > a else (a, b) for a, b in w.offsets])
            for w in behind
        ]
        if not front and text.strip():  # a model of one window reads what is seen
            return Windows(seen.windows, truncated=True)
        cut = seen.truncated or hidden.truncated or left or len(behind) < len(hidden.windows)
        return Windows([*front, *shifted], truncated=cut)

    def _is_cut(self, text: str) -> bool:
        return len(text) > self._most_characters and not text[self._most_characters :].isspace()

    def _windows(self, encoding: Encoding, *, cut: bool) -> Windows:
        """Cut the encoding of a whole text as the library's truncation with a stride does.

        Not left to the library: some versions (0.23.1 and 0.23.2) drop windows and do not say so.
        """
        ids, offsets = encoding.ids, encoding.offsets
        first, end = _text_tokens(encoding.special_tokens_mask)
        before, after = ids[:first], ids[end:]
        # The last window is the first one that reaches the end.
        starts = range(first, max(end - self.stride_tokens, first + 1), self._room - self.stride_tokens)
        windows = [
            Window(
                ids=[*before, *ids[start : min(start + self._room, end)], *after],
                offsets=[
                    *([(0, 0)] * len(before)),
                    *offsets[start : min(start + self._room, end)],
                    *([(0, 0)] * len(after)),
                ],
            )
            for start in starts[: self.max_windows]
        ]
        return Windows(windows=windows, truncated=cut or len(starts) > self.max_windows)


def _text_tokens(special: Sequence[int]) -> tuple[int, int]:
    """Where the tokens of the text begin and end between the special ones; equal where the text has none."""
    if 0 not in special:
        return len(special), len(special)
    return special.index(0), len(special) - special[::-1].index(0)


def _private_copy(tokenizer: Tokenizer) -> Tokenizer:
    private = Tokenizer.from_str(tokenizer.to_str())
    private.no_padding()
    private.no_truncation()
    # "[SEP]" in a merchant's text is five characters, not a control token.
    private.encode_special_tokens = True
    return private


def _pad_id(tokenizer: Tokenizer) -> int:
    """The id to pad with; 0 if the tokenizer names none, since padding is masked."""
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    known = (tokenizer.token_to_id(token) for token in _PAD_TOKENS)
    return next((token_id for token_id in known if token_id is not None), 0)

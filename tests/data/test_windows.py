"""Windows of a text: nothing lost, nothing invented, bounded."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from merchantguard.core.errors import MerchantGuardError, SettingsError
from merchantguard.data.windows import WindowTokenizer

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
_SENTENCES = ["we ship vapes and pods overnight", "handmade candles, free returns", "no id is asked for"]


def _make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        _SENTENCES, trainers.WordPieceTrainer(vocab_size=300, special_tokens=_SPECIAL, show_progress=False)
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


_TOKENIZER = _make_tokenizer()
_texts = st.lists(
    st.sampled_from(["ship", "vapes", "Pods,", "zzz", "é", "overnight", "\n", "中文", "[SEP]", "😀"]),
    max_size=60,
).map(" ".join)


@settings(deadline=None)
@given(_texts, st.integers(3, 20), st.data())
def test_windows_cover_the_tokens_and_overlap_by_the_stride(
    text: str, size: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(0, size - 3))
    tokenizer = WindowTokenizer(_TOKENIZER, window_tokens=size, stride_tokens=stride, max_windows=1_000)
    result = tokenizer.encode(text)
    whole = WindowTokenizer(_TOKENIZER, window_tokens=10_000, stride_tokens=0, max_windows=1).encode(text)
    expected = list(zip(whole.windows[0].ids, whole.windows[0].offsets, strict=True))[1:-1]

    bodies = [list(zip(w.ids, w.offsets, strict=True))[1:-1] for w in result.windows]
    joined = bodies[0] + [token for body in bodies[1:] for token in body[stride:]]
    assert joined == expected
    assert not result.truncated
    for window, body in zip(result.windows, bodies, strict=True):
        assert len(window.ids) == len(window.offsets) <= size
        assert (window.ids[0], window.ids[-1]) == (2, 3)
        assert window.offsets[0] == window.offsets[-1] == (0, 0)
        assert all(0 <= start < end <= len(text) for _, (start, end) in body)
    for before, after in pairwise(bodies):
        assert before[len(before) - stride :] == after[:stride]
        assert len(after) > stride  # something new in every window


@pytest.mark.parametrize(("size", "stride"), [(8, 0), (20, 4), (128, 16)])
def test_a_long_text_is_read_to_its_end_by_every_version_of_the_library(size: int, stride: int) -> None:
    """Versions 0.23.1 and 0.23.2 of tokenizers drop most windows when they cut them."""
    text = ("we ship vapes and pods overnight " * 280)[:9238]
    tokenizer = WindowTokenizer(_TOKENIZER, window_tokens=size, stride_tokens=stride, max_windows=10_000)
    for result in (tokenizer.encode(text), *tokenizer.encode_batch([text])):
        assert result.windows[0].start == 0
        assert result.windows[-1].end == len(text.rstrip())
        assert all(after.start <= before.end + 1 for before, after in pairwise(result.windows))
        assert not result.truncated


@settings(deadline=None)
@given(_texts, st.integers(3, 20), st.data())
def test_windows_are_those_of_the_library(text: str, size: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(0, size - 3))
    tokenizer = WindowTokenizer(_TOKENIZER, window_tokens=size, stride_tokens=stride, max_windows=1_000)
    plain = Tokenizer.from_str(_TOKENIZER.to_str())
    plain.encode_special_tokens = True
    expected = plain.encode(text, add_special_tokens=False)
    expected.truncate(size - 2, stride=stride)
    found = [(window.ids[1:-1], window.offsets[1:-1]) for window in tokenizer.encode(text).windows]
    assert found == [(part.ids, part.offsets) for part in (expected, *expected.overflowing)]


def test_a_window_is_full_before_the_next_one_begins() -> None:
    tokenizer = WindowTokenizer(_TOKENIZER, window_tokens=8, stride_tokens=2, max_windows=9)
    for words, windows in ((0, 1), (1, 1), (6, 1), (7, 2), (10, 2), (11, 3)):
        found = tokenizer.encode("ship " * words).windows
        assert (words, len(found)) == (words, windows)


def test_offsets_point_at_the_words() -> None:
    text = "we ship Vapes and pods " * 6
    tokenizer = WindowTokenizer(_TOKENIZER, window_tokens=12, stride_tokens=4, max_windows=99)
    vapes = _TOKENIZER.encode("vapes", add_special_tokens=False).ids
    assert len(vapes) == 1
    for window in tokenizer.encode(text).windows:
        found = [text[a:b] for i, (a, b) in zip(window.ids, window.offsets, strict=True) if i == vapes[0]]
        assert set(found) <= {"Vapes"}
        assert text[window.start : window.end] == text[window.start : window.end].strip()


def test_empty_text_gives_one_window_of_special_tokens() -> None:
    tokenizer = WindowTokenizer(_TOKENIZER, window_tokens=8, stride_tokens=2, max_windows=3)
    for text in ("", "  \n "):
        result = tokenizer.encode(text)
        assert [w.ids for w in result.windows] == [[2, 3]]
        assert (result.windows[0].start, result.windows[0].end, result.truncated) == (0, 0, False)


def test_batches_equal_single_texts() -> None:
    tokenizer = WindowTokenizer(_TOKENIZER, window_tokens=8, stride_tokens=2, max_windows=3)
    texts = ["", "ship", "vapes and pods " * 40, "zzz"]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch([]) == []


@pytest.mark.parametrize("text", ["a " * 500_000, "a" * 1_000_000, "ship vapes " * 30])
def test_long_texts_are_cut_and_say_so(text: str) -> None:
    tokenizer = WindowTokenizer(_TOKENIZER, window_tokens=8, stride_tokens=2, max_windows=3)
    result = tokenizer.encode(text)
    assert len(result.windows) <= 3
    assert result.truncated


def test_trailing_white_space_is_not_lost_text() -> None:
    tokenizer = WindowTokenizer(_TOKENIZER, window_tokens=8, stride_tokens=2, max_windows=1)
    assert not tokenizer.encode("ship" + " " * 10_000).truncated


def test_settings_of_the_given_tokenizer_are_ignored_and_kept() -> None:
    given_tokenizer = _make_tokenizer()
    given_tokenizer.enable_truncation(4)
    given_tokenizer.enable_padding(length=64, pad_id=7, pad_token="[PAD]")
    tokenizer = WindowTokenizer(given_tokenizer, window_tokens=30, stride_tokens=2, max_windows=3)
    assert tokenizer.pad_id == 7
    assert len(tokenizer.encode("ship vapes and pods").windows[0].ids) == 6
    assert given_tokenizer.truncation["max_length"] == 4
    assert given_tokenizer.padding["length"] == 64


def test_control_tokens_in_a_text_are_only_text() -> None:
    tokenizer = WindowTokenizer(_TOKENIZER, window_tokens=30, stride_tokens=2, max_windows=3)
    ids = tokenizer.encode("ship [SEP] vapes [CLS] [PAD]").windows[0].ids
    assert not {0, 2, 3} & set(ids[1:-1])


def test_threads_share_one_tokenizer() -> None:
    tokenizer = WindowTokenizer(_TOKENIZER, window_tokens=8, stride_tokens=2, max_windows=50)
    texts = ["ship vapes " * n for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer.encode, texts)) == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize(
    ("window", "stride", "most", "word"),
    [
        (2, 0, 1, "window_tokens is 2"),
        (8, 6, 1, "stride_tokens is 6"),
        (8, -1, 1, "stride_tokens is -1"),
        (8, 2, 0, "max_windows is 0"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    window: int, stride: int, most: int, word: str
) -> None:
    with pytest.raises(SettingsError, match=word):
        WindowTokenizer(_TOKENIZER, window_tokens=window, stride_tokens=stride, max_windows=most)


def test_from_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    _TOKENIZER.save(str(path))
    tokenizer = WindowTokenizer.from_file(path, window_tokens=8, stride_tokens=2, max_windows=3)
    assert tokenizer.pad_id == 0
    assert tokenizer.encode("ship").windows[0].ids[1:-1] == _TOKENIZER.encode("ship").ids[1:-1]
    path.write_text("{}")
    with pytest.raises(MerchantGuardError, match=r"tokenizer\.json"):
        WindowTokenizer.from_file(path, window_tokens=8, stride_tokens=2, max_windows=3)

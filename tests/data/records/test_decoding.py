"""Decoding of pages and text files: the HTML standard's order, and never mojibake without a word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.data.records.decoding import codec_of, declared_codec, decode_text

_RUSSIAN = "Одноразовые вейпы и никотин, доставка ночью"
_SAMPLES = {
    "cp1251": _RUSSIAN,
    "koi8_r": _RUSSIAN,
    "utf-16-le": _RUSSIAN,
    "gb18030": "电子烟和尼古丁出售，全国包邮，二十四小时在线客服",
    "big5hkscs": "電子煙和尼古丁出售，全國包郵，歡迎訂購",
    "cp932": "電子タバコとニコチンの販売、全国送料無料",
    "euc_jp": "電子タバコとニコチンの販売、全国送料無料",
    "cp949": "전자담배와 니코틴 판매, 전국 무료 배송, 성인 인증 없음",
    "cp1252": "Boutique de thé à Paris, café et pâtisseries déjà prêtes",
    "cp1253": "Ηλεκτρονικά τσιγάρα και νικοτίνη, αποστολή σε όλη την Ελλάδα",
    "cp1254": "Elektronik sigara satışı, İstanbul içi ücretsiz kargo, yaş doğrulaması yok",
    "cp1255": "סיגריות אלקטרוניות וניקוטין, משלוח לכל הארץ",
    "cp1256": "سجائر إلكترونية ونيكوتين، شحن إلى جميع الدول",
}
_DECLARED = {
    "windows-1251": (_RUSSIAN, "cp1251"),
    "KOI8-R": (_RUSSIAN, "koi8_r"),
    "gb2312": ("电子烟和烟油", "gb18030"),
    "gbk": ("电子烟和烟油 €", "gb18030"),
    "Shift_JIS": ("電子タバコの通販①", "cp932"),
    "euc-jp": ("電子タバコ", "euc_jp"),
    "euc-kr": ("전자담배 뷁", "cp949"),
    "big5": ("電子煙", "big5hkscs"),
    "iso-8859-1": ("café – “tea” €", "cp1252"),
    "us-ascii": ("café", "cp1252"),
    "iso-8859-9": ("satışı", "cp1254"),
    "iso-8859-2": ("żółty", "iso8859_2"),
    "utf-8": ("café – €", "utf-8"),
}


@pytest.mark.parametrize("label", _DECLARED)
@pytest.mark.parametrize(
    "declaration",
    [
        "<meta charset={}>",
        "<!doctype html><html><head><!-- <meta charset=big5> --><META data-a='>' charset = '{}' />",
        '<meta http-equiv="Content-Type" content="text/html; charset={}">',
        '<?xml version="1.0" encoding="{}"?>',
    ],
)
def test_the_declared_encoding_is_used(label, declaration):
    text, codec = _DECLARED[label]
    page = declaration.format(label) + f"<p>{text}</p>"
    found = decode_text(page.encode(codec), markup=True)
    assert (found.text, found.encoding, found.replaced, found.note) == (page, codec, 0, "")


def test_a_declaration_counts_only_in_markup_and_near_the_start():
    text = "<meta charset=windows-1251>café crème brûlée"
    assert decode_text(text.encode("cp1252"), markup=False).text == text
    assert declared_codec(b" " * 1_024 + b"<meta charset=big5>") is None
    assert declared_codec(b"<meta charset=no-such-label><meta charset=big5>") == "big5hkscs"
    assert declared_codec(b"<meta charset=utf-16>") == "utf-8"


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_outranks_all(codec):
    page = f"<meta charset=windows-1252><p>{_RUSSIAN}</p>"
    found = decode_text(page.encode(codec), markup=True, charset="koi8-r")
    assert (found.text, found.source) == (page, "bom")


def test_the_transport_outranks_the_page():
    page = f"<meta charset=windows-1252><p>{_RUSSIAN}</p>"
    found = decode_text(page.encode("koi8-r"), markup=True, charset="KOI8-R")
    assert (found.text, found.source) == (page, "transport")


def test_one_bad_byte_costs_one_character():
    good = f"<meta charset=utf-8><p>{_RUSSIAN}</p><p>caf"
    for page, source in ((good, "declared"), (good.replace("<meta charset=utf-8>", ""), "utf-8")):
        found = decode_text(page.encode() + b"\xe9</p>", markup=True)
        assert (found.text, found.source, found.replaced) == (page + "\ufffd</p>", source, 1)
        assert "1 characters are not valid utf-8" in found.note


def test_replacement_characters_of_the_author_are_not_counted():
    assert decode_text("what � is".encode(), markup=False).replaced == 0
    assert decode_text("ж� ".encode() * 9 + b"\xe9", markup=False).replaced == 1


def test_a_declaration_that_the_bytes_contradict_is_not_believed():
    page = f"<meta charset=windows-1251><p>{_RUSSIAN * 3}</p>"
    assert decode_text(page.encode(), markup=True).text == page
    page = f"<meta charset=utf-8><p>{_RUSSIAN * 3}</p>"
    found = decode_text(page.encode("cp1251"), markup=True)
    assert (found.text, found.source) == (page, "detected")


@pytest.mark.parametrize("codec", _SAMPLES)
@pytest.mark.parametrize("form", ["{}", "<html><body><div class=a><p>{}</p></div></body></html>"])
@pytest.mark.parametrize("times", [1, 20])
def test_what_nothing_declares_is_detected_and_said(codec, form, times):
    text = form.format(_SAMPLES[codec]) * times
    for markup in (False, True):
        found = decode_text(text.encode(codec), markup=markup)
        assert (found.text, found.replaced) == (text, 0)
        assert "no encoding is stated" in found.note


def test_letters_far_from_the_start_are_found():
    text = "tea and mugs " * 200_000 + _RUSSIAN + " tea and mugs" * 200_000
    assert decode_text(text.encode("cp1251"), markup=False).text == text


def test_few_letters_are_western():
    assert decode_text(b"caf\xe9 \x80 5", markup=False).text == "café € 5"
    assert decode_text(b"\x81\x8d", markup=False).replaced == 2


def test_labels():
    assert codec_of(" ISO-8859-1\n") == codec_of("latin1") == "cp1252"
    assert codec_of("bogus") is codec_of("") is codec_of("idna") is None
    for label in ("windows-1257", "cp1250", "iso8859-15", "tis-620", "x-sjis", "ks_c_5601-1987", "ibm866"):
        assert "x".encode(codec_of(label)) == b"x"


@given(st.text(st.characters(exclude_categories=("Cs",))).filter(lambda text: not text.startswith("\ufeff")))
def test_utf8_is_read_as_it_is(text):
    if "\0" not in text:
        assert decode_text(text.encode(), markup=False).text == text


@given(st.binary(max_size=200), st.booleans(), st.none() | st.sampled_from(["gbk", "utf-16", "bogus", "\0"]))
def test_any_bytes_give_text(content, markup, charset):
    found = decode_text(content, markup=markup, charset=charset)
    found.text.encode("utf-8", "surrogatepass")
    assert 0 <= found.replaced <= len(content)


@given(
    st.sampled_from(sorted(_DECLARED)),
    st.lists(st.sampled_from(list("abc é")), max_size=3),
    st.integers(1, 30),
)
def test_a_declared_page_round_trips(label, extra, times):
    text, codec = _DECLARED[label]
    page = (
        f"<meta charset='{label}'><p>{text * times}{''.join(extra).encode(codec, 'ignore').decode(codec)}</p>"
    )
    assert decode_text(page.encode(codec), markup=True).text == page

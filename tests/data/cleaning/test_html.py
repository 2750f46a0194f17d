"""Text of HTML pages: what a visitor can read is kept, and no page brings the process down."""

import json
from html import escape
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.data.cleaning.html import MOST_CHARACTERS, html_to_text, read_page

_PAGE = """<!doctype html><html><head><title>Cloud &amp; Co</title>
<meta name="description" content="Pods for everyone"><style>.secretstyle{}</style>
<script>var secretscript = "<p>secretscript</p>";</script></head><body>
<nav><ul><li>Home</li><li>Wholesale</li></ul></nav><!-- secretcomment --><template><p>secrettemplate</p></template>
<p>Dispo<b>sable</b> va<wbr>pes</p><table><tr><td>Mango</td><td>&pound;5.99</td></tr><tr><td>Ice</td><td>&#8364;7</td></tr></table>
<img src="a.jpg" alt="Mango pod"><img src="b.jpg" alt="Ice pod">
<select><option>10 mg<option>20 mg</select><input placeholder="Discount code"><input type="submit" value="Buy now">
<input type="hidden" value="secrettoken"><button>Ask us</button><details><summary>Terms</summary>No ID asked</details>
<div style="display:none">Hidden from view</div><div hidden>Hidden by attribute</div>
<noscript>Enable scripts</noscript><footer>&copy; Cloud Ltd</footer></body></html>"""


@pytest.mark.parametrize(
    "kept",
    [
        "Cloud & Co",
        "Pods for everyone",
        "Home",
        "Wholesale",
        "Disposable vapes",
        "£5.99",
        "€7",
        "Mango pod",
        "Discount code",
        "Buy now",
        "Ask us",
        "No ID asked",
        "Hidden from view",
        "Hidden by attribute",
        "Enable scripts",
        "© Cloud Ltd",
    ],
)
def test_what_can_be_read_is_kept(kept: str) -> None:
    assert kept in html_to_text(_PAGE)


def test_what_is_not_text_is_left_out() -> None:
    assert "secret" not in html_to_text(_PAGE)


def test_boxes_and_rows_are_separated_but_inline_tags_do_not_split() -> None:
    words = html_to_text(_PAGE).split()
    assert {"Mango", "Ice", "Terms", "No", "Disposable", "vapes"} <= set(words)
    text = html_to_text(_PAGE)
    for glued in ("mg20", "podIce", "TermsNo", "5.99Ice", "HomeWholesale"):
        assert glued not in text


def test_links_that_touch_are_separated() -> None:
    assert html_to_text("<a href=1>Home</a><a href=2>Shop</a>") == "Home Shop"


def test_repeated_descriptions_are_given_once_and_placeholders_kept() -> None:
    page = "<meta name=description content=Same><meta property='og:description' content=Same>"
    page += "<input placeholder=Mail><textarea placeholder='Your order'></textarea>"
    assert html_to_text(page).count("Same") == 1
    assert html_to_text(page).count("Mail") == html_to_text(page).count("Your order") == 1


@pytest.mark.parametrize(
    "page",
    [
        "<div>" * 100_000 + "deep",
        "<div>" * 100_000 + "deep" + "</div>" * 100_000,
        "<ul><li>" * 100_000 + "deep",
        "<table><tr><td>" * 100_000 + "deep",
        "<p><a><b><i><u><font>" * 10_000 + "deep",
        "<svg>" * 100_000 + "deep",
        "<option>" * 100_000 + "deep",
        "<p title='" + "a" * 4_000_000 + "'>deep",
        "<input placeholder='" + "a" * 4_000_000 + "'>deep",
        "<p\x00>d\x00eep\x00",
        "&#xFFFFFFFFFF;&#0;&#55296;&#-1;&;&bogus;&amp" * 1_000 + "deep",
        "<b><p></b></i></table><td>deep",
        "\ud800<p>deep\udfff",
        "deep",
    ],
    ids=lambda page: page[:24].encode("ascii", "backslashreplace").decode(),
)
def test_hostile_pages_keep_their_text_and_do_no_harm(page: str) -> None:
    text = html_to_text(page)
    assert "deep" in text
    assert len(text) <= len(page) + 16
    text.encode("utf-8")


@pytest.mark.parametrize("page", ["", "\x00", "<!--deep", "<title>", "<frameset><frame>", "<script>deep"])
def test_pages_without_text(page: str) -> None:
    assert html_to_text(page) == ""


def test_what_lies_beyond_the_bound_is_not_read() -> None:
    page = "<p>" + "word " * (MOST_CHARACTERS // 5) + "beyond"
    text = html_to_text(page)
    assert "beyond" not in text
    assert len(text) <= MOST_CHARACTERS


@settings(deadline=None)
@given(
    st.text(max_size=80),
    st.lists(st.sampled_from(["<p>", "</b>", "<td", "'>", "&#x", "<!", "]]>", "="]), max_size=8),
)
def test_any_string_gives_text(text: str, tags: list[str]) -> None:
    html_to_text("".join(tags) + text).encode("utf-8")
    html_to_text(text.join(tags)).encode("utf-8")


@pytest.mark.parametrize(
    "hidden",
    [
        '<span style="display:none">xq</span>',
        "<i class=x style='color:red; font-size : 0px'>z</i>",
        "<B hidden>no</B>",
        '<em style="visibility:hidden">..</em>',
    ],
)
def test_letters_hidden_inside_a_word_are_left_out(hidden: str) -> None:
    assert html_to_text(f"<p>we sell va{hidden}pes here</p>") == "we sell vapes here"


def test_what_is_hidden_between_words_or_only_small_stays() -> None:
    page = '<p>we sell <span style="display:none">kratom</span> and te<span style="font-size:0.8em">a</span>s</p>'
    assert html_to_text(page) == "we sell and teas\nkratom"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<a href=/p><img src=p.jpg alt='Mango pod'>Vape juice</a>", "Mango pod Vape juice"),
        ("<p><img src=p.gif alt=decor>Online <img src=p.gif alt=decor>casino", "decor Online decor casino"),
        ("<a><svg><title>Cart</title><path d='M0 0'/></svg>Vapes</a>", "Cart Vapes"),
        ("<svg><text x=1>Vape</text><text x=9>Juice</text></svg>", "Vape Juice"),
        ("<svg><desc>Cart</desc></svg>Vapes", "Cart Vapes"),
        ("<div style='display:flex;gap:1em'><span>Vape</span><span>Juice</span></div>", "Vape Juice"),
        ("<div style='DISPLAY : inline-grid'><b>Vape</b>Juice</div>", "Vape Juice"),
        ("<span style='display:block'>Vape</span><span style='display:block'>Juice</span>", "Vape Juice"),
        ("<p><b><i style='display:inline-block'>Vape</i></b>Juice", "Vape Juice"),
        ("<p>va<span style='display:inline'>pe</span>s", "vapes"),
        ("<p><span style='display:none'>zq</span>Online <i hidden>zq</i>casino", "Online casino"),
        ("<p>Online<span style='display:none'>zq</span> casino", "Online casino"),
        ("<p>tea<span style='display:none'>kratom</span>", "tea\nkratom"),
        (
            "<p>Shop</p><iframe srcdoc='&lt;p&gt;Nicotine &lt;b&gt;pods&lt;/b&gt;'></iframe>",
            "Shop\nNicotine pods",
        ),
        ("<x-card><template shadowrootmode=open><p>Pods</p></template></x-card>", "Pods"),
        ("<x-card><template id=a shadowrootmode='closed'><p>Pods</p></template>", "Pods"),
        ("<p>a</p><template><p>Pods</p></template>", "a"),
        (
            "<select><optgroup label=Strength><option>3 mg<option>6 mg</optgroup></select>",
            "Strength 3 mg 6 mg",
        ),
        ("<input type=image src=b.png alt='Order pills'>", "Order pills"),
        ("<a href=1 aria-label='Buy vapes'></a>", "Buy vapes"),
        ("<a href=1 aria-label='Buy vapes'>Buy</a>", "Buy"),
    ],
)
def test_words_end_where_a_browser_ends_them_and_labels_are_read(page: str, text: str) -> None:
    assert html_to_text(page) == text


def test_frames_are_read_two_deep() -> None:
    page = "<p>three</p>"
    for name in ("two", "one", "zero"):
        page = f"<p>{name}</p><iframe srcdoc='{escape(page)}'></iframe>"
    assert html_to_text(page).split() == ["zero", "one", "two"]
    assert html_to_text("<iframe srcdoc='&lt;p&gt;a'></iframe>" * 1_000).split() == ["a"] * 100


@pytest.mark.parametrize(
    "page",
    [
        "<img " * 200_000 + "><p>deep",
        "<template " * 200_000 + "><p>deep",
        "<span " * 200_000 + "><p>deep",
        "<div style=display:flex>" * 30_000 + "deep",
        "<a aria-label=x></a>" * 50_000 + "deep",
        "<p>a<span hidden>b</span>" * 50_000 + "deep",
    ],
    ids=lambda page: page[:12],
)
def test_hostile_markup_takes_time_in_its_length(page: str) -> None:
    html_to_text(page)


@pytest.mark.parametrize(
    ("page", "visible", "hidden"),
    [
        ("<style>.x{display:none}</style><p>Tea</p><p class=x>Kratom capsules", "Tea", "Kratom capsules"),
        ("<style>.x{display:none}.x.y{display:block}</style><p class='x y'>Tea", "Tea", ""),
        ("<style>.x{display:none!important}</style><p class=x style='display:block'>Kratom", "", "Kratom"),
        ("<style>@media print{p{display:none}}</style><p>Tea", "Tea", ""),
        ("<style>@media screen{p{display:none}} b{color:red}</style><p>Kratom</p><b>Tea", "Tea", "Kratom"),
        ("<style>a:hover{display:none} p::x{display:none} }{</style><a>Tea", "Tea", ""),
        ("<style>/* p{display:none} */ li,b{display:none}</style><p>Tea</p><b>Kratom", "Tea", "Kratom"),
        (
            "<style>.r span{display:inline-block}</style><p class=r><span>Mango</span><span>pod",
            "Mango pod",
            "",
        ),
        ("<style>.m{display:flex}</style><p class=m><b>Mango</b><b>pod", "Mango pod", ""),
        ("<p>Tea</p><div style='position:absolute;left:-9999px'>Kratom", "Tea", "Kratom"),
        ("<p>Tea</p><div style='opacity: 0'>Kratom", "Tea", "Kratom"),
        ("<p style='opacity:0.9;font-size:0.8em'>Tea", "Tea", ""),
        ("<p>Tea</p><p style='color:#fff;background:#fff'>Kratom", "Tea", "Kratom"),
        ("<p>Tea</p><p style='height:0;overflow:hidden'>Kratom", "Tea", "Kratom"),
        ("<p>Tea</p><div hidden><p>Kratom</p><p style='display:none'>Pills", "Tea", "Kratom\nPills"),
        ("<p>Tea</p><dialog>Are you of age?</dialog>", "Tea", "Are you of age?"),
        ("<p>Tea</p><!-- kratom --><li hidden>Kratom</li><li hidden>Kratom</li>", "Tea", "Kratom"),
        ("<details><summary>More</summary>Tea</details>", "More Tea", ""),
    ],
)
def test_hidden_text_is_told_apart(page: str, visible: str, hidden: str) -> None:
    found = read_page(page)
    assert (" ".join(found.visible.split()), found.hidden) == (visible, hidden)


def test_the_data_of_a_page_without_words_is_read_and_that_of_others_is_not() -> None:
    offer = {
        "@type": "Product",
        "name": "Mint vape",
        "offers": {"price": 9.5, "priceCurrency": "EUR"},
        "sku": "A",
    }
    script = f"<script type='application/ld+json'>{json.dumps(offer)}</script>"
    state = {
        "props": {
            "pageProps": {"items": [{"title": "Pod kit", "description": "Nicotine salts", "slug": "x"}]}
        }
    }
    shell = f"<title>Kiln</title><div id=__next></div>{script}"
    shell += f"<script id=__NEXT_DATA__ type='application/json'>{json.dumps(state)}</script>"
    shell += (
        "<script type='application/ld+json'>{broken</script><meta itemprop=description content='Fruit ice'>"
    )
    expected = ["Kiln", "Mint vape", "9.5", "EUR", "Pod kit", "Nicotine salts", "Fruit ice"]
    assert html_to_text(shell).split("\n") == expected
    words = " ".join(["clay"] * 60)
    assert html_to_text(f"<p>{words}</p>{script}") == words
    deep = "[" * 100_000 + "]" * 100_000
    assert html_to_text(f"<p>Tea</p><script type='application/json'>{deep}</script>") == "Tea"


@pytest.mark.parametrize(
    "filler",
    ["<style>@font-face{{src:url(data:x,{})}}</style>", "<script>{}</script>", "<img src='data:x,{}'>"],
)
def test_what_is_not_text_takes_no_room(filler: str) -> None:
    page = read_page(filler.format("A" * (MOST_CHARACTERS + 100)) + "<p>Mint vape")
    assert (page.visible, page.truncated) == ("Mint vape", False)
    assert read_page("<p>" + "word " * (MOST_CHARACTERS // 5 + 9)).truncated


def test_the_names_that_links_to_a_page_show_are_read() -> None:
    assert html_to_text("<meta property='og:title' content='Vape shop'><p>Tea") == "Vape shop\nTea"
    assert html_to_text("<svg aria-label='Buy vapes'></svg>") == "Buy vapes"


RULES = st.lists(
    st.sampled_from(
        [
            "p",
            ".x",
            "{",
            "}",
            "display:none",
            ";",
            "@media",
            "screen",
            "/*",
            "*/",
            "!important",
            ",",
            ":not(",
            "<b style='",
            "'>",
        ]
    ),
    max_size=20,
)


@settings(deadline=None)
@given(RULES)
def test_any_style_sheet_is_survived(parts: list[str]) -> None:
    page = read_page(f"<style>{' '.join(parts)}</style><p class=x>Teapot</p>")
    assert "Teapot" in page.visible + page.hidden


@pytest.mark.parametrize(
    "page",
    [
        "<style>" + "a" * 200_000 + "{}</style>",
        "<style>"
        + "".join(f":not(.a{i}):nth-child({i + 1}) ~ p{{display:none}}" for i in range(400))
        + "</style>"
        + "<p>" * 20_000,
        "<style>" + ":root *>*{display:flex}" * 400 + "</style>" + "<p>" * 20_000,
        "<svg aria-label=x>" * 10_000 + "word " * 100_000,
        "<div hidden>" * 20_000,
    ],
    ids=[
        "selector without end",
        "siblings",
        "every rule for every element",
        "nested labels",
        "nested hidden",
    ],
)
def test_no_page_costs_more_than_its_length(page: str) -> None:
    began = process_time()
    assert (
        "the end"
        in read_page(page + "</style></svg></p><p>the end").visible + read_page(page + " the end").hidden
    )
    assert process_time() - began < 30, (
        "linear cost is a second or two; what these pages aimed at took minutes"
    )


def test_hidden_text_within_hidden_text_is_taken_once() -> None:
    page = "<div hidden>Ask for <b style='display:none'>the other menu</b> by mail</div><p hidden>Second part</p>Seen"
    assert read_page(page).hidden.splitlines() == ["Ask for the other menu by mail", "Second part"]


def test_a_rule_for_siblings_hides_on_a_page_of_usual_size() -> None:
    page = "<style>h2 ~ p {display:none}</style>"
    found = read_page(page + "<h2>Menu</h2><p>Hidden line</p><p>Shown line</p>" + "<i>x</i>" * 50)
    assert (found.hidden, "Shown line" in found.visible) == ("Hidden line\nShown line", False)

"""Compare HTML text extractors on visible words found, other words included, and speed.

    python bench/html_extractors.py --pages 240

Pages are the shipped corpus texts wrapped in generated templates, so the visible words of each are known: menus,
price tables, footers, cookie banners, nested lists, entities, inline tags inside words, form fields, image texts,
unclosed and misnested tags. Scripts, style sheets, templates and comments hold words that no visitor sees.
Every peer gets the title and the description for free, so that the body decides.
"""

import argparse
import html
import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from merchantguard.core.extras import require
from merchantguard.data.cleaning.html import html_to_text

Extractor = Callable[[str], str]

_WORD = re.compile(r"\w+")
_MENU = ("Home", "Shop", "Bestsellers", "Track order", "Wholesale", "FAQ", "Contact us", "Log in")
_FOOTER = ("Terms", "Refund policy", "Shipping", "Crypto accepted", "Age 21+ only", "Imprint")
_DESCRIPTION = "Secure checkout worldwide"
_UNSEEN = "zqtracker zqpixel zqbundle zqtheme zqpayload"


@dataclass(frozen=True)
class Page:
    """One generated page; `visible` is all its text, in any order."""

    template: str
    html: str
    visible: str


class _Builder:
    """Writes markup and keeps what a visitor would see."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.markup: list[str] = []
        self.visible: list[str] = []

    def raw(self, markup: str) -> None:
        self.markup.append(markup)

    def text(self, text: str) -> None:
        self.visible.append(text)
        self.markup.append(self._escape(text))

    def _escape(self, text: str) -> str:
        escaped = html.escape(text)
        for character, entity in (("£", "&pound;"), ("é", "&#233;"), ("–", "&ndash;"), ("€", "&#x20AC;")):
            if self.rng.random() < 0.5:
                escaped = escaped.replace(character, entity)
        return escaped

    def split_words(self, text: str) -> None:
        """Prose with inline tags around and inside words."""
        self.visible.append(text)
        for word in text.split(" "):
            if len(word) > 4 and self.rng.random() < 0.1:
                tag = self.rng.choice(("b", "em", "span", "font", "wbr"))
                head, tail = self._escape(word[:2]), self._escape(word[2:])
                self.raw(f"{head}<wbr>{tail} " if tag == "wbr" else f"{head}<{tag}>{tail}</{tag}> ")
            else:
                self.raw(self._escape(word) + " ")

    def items(self, texts: Sequence[str], tag: str = "li") -> None:
        for text in texts:
            self.raw(f"<{tag}>")
            self.text(text)
            self.raw(f"</{tag}>")

    def unseen(self) -> None:
        self.raw(
            f"<script>var a = '{_UNSEEN}'; if (a < 1) {{ document.write('<p>{_UNSEEN}</p>'); }}</script>"
        )
        self.raw(f"<style>.{_UNSEEN.replace(' ', ',.')} {{ color: red }}</style><!-- {_UNSEEN} -->")
        self.raw(f"<template><p>{_UNSEEN}</p></template>")


def _shop(page: _Builder, lines: list[str]) -> None:
    page.raw("<header><nav><ul>")
    page.items(_MENU)
    page.raw("</ul></nav></header><main><h1>")
    page.text(lines[0])
    page.raw("</h1>")
    for line in lines[1:]:
        page.raw("<p>")
        page.split_words(line)
        page.raw("</p>")
    page.unseen()
    page.raw("</main><footer><ul>")
    page.items(_FOOTER)
    page.raw("</ul></footer>")


def _price_table(page: _Builder, lines: list[str]) -> None:
    page.raw("<div class=menu>")
    page.items(_MENU, "a")  # links without a space between them, separated by the style sheet
    page.raw("</div><table><thead><tr><th>Product</th><th>Price</th><th>Stock</th></tr></thead>")
    page.visible.append("Product Price Stock")
    for line in lines:
        page.raw("<tr><td>")
        page.text(line)
        page.raw("</td>")
        page.items((f"${page.rng.randint(5, 900)}.99", "in stock"), "td")
        page.raw("</tr>")
    page.raw("</table><div id=footer>")
    page.items(_FOOTER, "span")
    page.raw("</div>")
    page.unseen()


def _cookie_and_forms(page: _Builder, lines: list[str]) -> None:
    page.unseen()
    page.raw('<div class="cookie"><p>')
    page.text("We use cookies to remember your basket.")
    page.raw("</p><button>")
    page.text("Accept all")
    page.raw("</button></div><form><select>")
    page.items(("10 ml", "50 ml", "100 ml"), "option")
    page.raw('</select><input placeholder="Discount code"><input type="submit" value="Add to basket"></form>')
    page.visible += ["Discount code", "Add to basket"]
    page.raw(f'<img src="a.jpg" alt="{html.escape(lines[0])}">')
    page.visible.append(lines[0])
    for line in lines[1:]:
        page.raw("<details><summary>")
        page.text("More")
        page.raw("</summary>")
        page.split_words(line)
        page.raw("</details>")


def _nested_lists(page: _Builder, lines: list[str]) -> None:
    for line in lines:
        page.raw("<ul><li><div><ol><li>")
        page.split_words(line)
    page.raw("</li></ol></div></li></ul>" * len(lines))
    page.raw("<aside><dl>")
    page.items(_FOOTER, "dd")
    page.raw("</dl></aside>")
    page.unseen()


def _malformed(page: _Builder, lines: list[str]) -> None:
    page.raw("<table><tr><td><b><i>")
    for line in lines:
        page.raw("<p><a href='x>y'><font color=red")
        page.raw(" =bad attr'>")
        page.split_words(line)
        page.raw("</b></a></p></td>&nbsp;&bogus1<td>")
        page.visible.append("bogus1")
    page.unseen()
    page.raw("<div><span>")
    page.items(_FOOTER, "p")
    page.raw("</body></html></div>")


_TEMPLATES = {
    "shop": _shop,
    "price table": _price_table,
    "forms": _cookie_and_forms,
    "nested lists": _nested_lists,
    "malformed": _malformed,
}


def _corpus_texts() -> list[str]:
    folder = files("merchantguard.data").joinpath("corpus")
    parts = sorted(
        (part for part in folder.iterdir() if part.name.endswith(".jsonl")), key=lambda part: part.name
    )
    return [
        json.loads(line)["text"] for part in parts for line in part.read_text("utf-8").splitlines() if line
    ]


def make_pages(count: int, *, seed: int) -> list[Page]:
    """Draw corpus texts and wrap them in the templates in turn."""
    rng = random.Random(seed)
    texts = rng.sample(_corpus_texts(), count)
    pages = []
    for number, text in enumerate(texts):
        name = list(_TEMPLATES)[number % len(_TEMPLATES)]
        page = _Builder(rng)
        lines = [line for line in text.splitlines() if line.strip()]
        page.raw("<!doctype html><html><head><title>")
        page.text(lines[0])
        page.raw(f'</title><meta name="description" content="{_DESCRIPTION}">')
        page.visible.append(_DESCRIPTION)
        page.unseen()
        page.raw("</head><body>")
        _TEMPLATES[name](page, lines)
        page.raw("</body></html>")
        pages.append(Page(name, "".join(page.markup), "\n".join(page.visible)))
    return pages


def _extractors() -> dict[str, Extractor]:
    resiliparse = require("resiliparse.extract.html2text", "cli")
    selectolax = require("selectolax.lexbor", "bench")
    trafilatura = require("trafilatura", "bench")

    def lexbor(page: str, separator: str) -> str:
        tree = selectolax.LexborHTMLParser(page)
        tree.strip_tags(["head", "script", "style", "template"])
        return str(tree.root.text(separator=separator)) if tree.root else ""

    peers: dict[str, Extractor] = {
        "Resiliparse, form fields on": lambda page: str(
            resiliparse.extract_plain_text(page, form_fields=True, noscript=True, list_bullets=False)
        ),
        "Resiliparse, main content": lambda page: str(
            resiliparse.extract_plain_text(page, main_content=True)
        ),
        "selectolax, separator ' '": lambda page: lexbor(page, " "),
        "selectolax, no separator": lambda page: lexbor(page, ""),
        "trafilatura extract, recall": lambda page: str(trafilatura.extract(page, favor_recall=True) or ""),
        "trafilatura html2txt": lambda page: str(trafilatura.html2txt(page)),
    }
    with_head = {name: _with_head(extract) for name, extract in peers.items()}
    return {"html_to_text (ours, on Resiliparse)": html_to_text, **with_head}


def _with_head(extract: Extractor) -> Extractor:
    def extract_all(page: str) -> str:
        title = html.unescape(page.partition("<title>")[2].partition("</title>")[0])
        return f"{title}\n{_DESCRIPTION}\n{extract(page)}"

    return extract_all


def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.lower()))


@dataclass(frozen=True)
class Figures:
    """Medians over pages (shares of words), the lowest recall, unseen words included, and speed."""

    recall: float
    worst_recall: float
    precision: float
    unseen: int
    megabytes_per_second: float


def measure(extract: Extractor, pages: Sequence[Page], *, repeats: int) -> Figures:
    """Run one extractor over all pages; the speed is the median over the repeats."""
    recalls, precisions, unseen = [], [], 0
    for page in pages:
        found, visible = _words(extract(page.html)), _words(page.visible)
        right = (found & visible).total()
        recalls.append(right / visible.total())
        precisions.append(right / max(found.total(), 1))
        unseen += sum(found[word] for word in _UNSEEN.split())
    size = sum(len(page.html.encode()) for page in pages) / 1e6
    speeds = []
    for _ in range(repeats):
        started = time.perf_counter()
        for page in pages:
            extract(page.html)
        speeds.append(size / (time.perf_counter() - started))
    return Figures(
        statistics.median(recalls),
        min(recalls),
        statistics.median(precisions),
        unseen,
        statistics.median(speeds),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pages", type=int, default=240, help="pages to generate, at least 200 (default: 240)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument("--repeats", type=int, default=5, help="timed passes over all pages (default: 5)")
    options = parser.parse_args()
    if options.pages < 200 or options.repeats < 1:
        parser.error("--pages must be at least 200 and --repeats at least 1")
    pages = make_pages(options.pages, seed=options.seed)
    print(f"{len(pages)} pages, {sum(len(page.html) for page in pages) / 1e6:.2f} million characters")
    print("| extractor | recall, median | recall, worst | precision, median | unseen words | MB/s |")
    print("|---|---|---|---|---|---|")
    for name, extract in _extractors().items():
        found = measure(extract, pages, repeats=options.repeats)
        print(
            f"| {name} | {found.recall:.4f} | {found.worst_recall:.4f} | {found.precision:.4f} "
            f"| {found.unseen} | {found.megabytes_per_second:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

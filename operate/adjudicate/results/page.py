"""A page that shows adjudicated cases as a person sees them: the text with the quotes marked, both opinions side by side."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from ....core.display import visible
from ....core.files import write_text
from ....data.taxonomy import Taxonomy
from ..case import Case
from ..verdicts import Row

_AROUND = 600
_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Second opinions</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}
article{border:1px solid #ddd;border-radius:6px;padding:1rem;margin:1.5rem 0}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font:inherit;background:#f7f7f7;padding:.8rem;border-radius:4px}
mark.q{background:#ffe08a}mark.f{background:none;border-bottom:2px solid #c33}mark.qf{background:#ffe08a;border-bottom:2px solid #c33}
.sides{display:flex;gap:2rem;flex-wrap:wrap}.warn{color:#a00}h3{margin:.2rem 0}
</style></head><body>
<h1>Second opinions</h1>
<p>{{ rows|length }} cases by {{ builds|join(", ") }}. A quote that is proven is <mark class="q">marked</mark>; what the encoder found is
<mark class="f">underlined</mark>. A case is cleared only under a certified rule.</p>
<table><tr><th>policy</th><th>cases</th><th>violates</th><th>compliant</th><th>cannot tell</th><th>unproven</th>
<th>same side as the encoder</th><th>cleared</th></tr>
{% for each in policies %}<tr><td>{{ each.title }}</td>{% for n in each.counts %}<td class="n">{{ n }}</td>{% endfor %}
<td class="n">{{ each.agreement }}</td><td class="n">{{ each.cleared }}</td></tr>{% endfor %}
</table>
{% if left %}<p>The {{ shown|length }} cases of most interest are shown; {{ left }} more are in the results.</p>{% endif %}
{% for case in shown %}<article>
<h3>{{ case.title }}: {{ case.record }}</h3>
<div class="sides"><div><b>Encoder</b>: {{ case.encoder }}, to review</div>
<div><b>Model</b>: {{ case.row.verdict }}{% if case.row.verdict != case.row.stated %} (said: {{ case.row.stated }}){% endif %},
{{ case.model }}</div><div><b>Goes to</b>: {{ case.row.move }}{% if case.row.rule %} by {{ case.row.rule }}{% endif %}</div></div>
{% for fault in case.faults %}<div class="warn">{{ fault }}</div>{% endfor %}
{% if case.row.injection %}<div class="warn">The text addresses its reader: {{ case.row.injection|join("; ") }}</div>{% endif %}
{% for page in case.pages %}{% if page.url %}<div>{{ page.url }}</div>{% endif %}
<pre>{% for piece in page.pieces %}{% if piece.kind %}<mark class="{{ piece.kind }}">{{ piece.text }}</mark>{% else %}{{ piece.text }}{% endif %}{% endfor %}</pre>{% endfor %}
</article>{% endfor %}
</body></html>
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text to show; `kind` is "q" in a quote, "f" in a finding, "qf" in both, "" elsewhere."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class ShownPage:
    """A page of a case: its address, if known, and its pieces."""

    url: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class ShownCase:
    """A case as it is shown."""

    row: Row
    record: str
    title: str
    encoder: str
    model: str
    faults: tuple[str, ...]
    pages: tuple[ShownPage, ...]


@dataclass(frozen=True, slots=True)
class PolicyCounts:
    """The answers under one policy."""

    title: str
    counts: tuple[int, ...]
    agreement: str
    cleared: int


def write_page(cases: Sequence[tuple[Case, Row]], taxonomy: Taxonomy, path: Path, *, most: int = 200) -> None:
    """Write the page: all cases by policy, and `most` of them in full, those with signs of an attack first."""
    titles = {policy.id: policy.title for policy in taxonomy.policies}
    order = sorted(
        cases, key=lambda pair: (not pair[1].injection, pair[1].verdict == "cannot tell", -pair[1].encoder)
    )
    rows = [row for _, row in cases]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(_TEMPLATE).render(
        rows=rows,
        builds=sorted({visible(row.build) for row in rows}) or ["nobody"],
        policies=_by_policy(rows, titles),
        shown=[_shown(case, row, titles) for case, row in order[:most]],
        left=max(len(order) - most, 0),
    )
    write_text(path, page)


def _by_policy(rows: Sequence[Row], titles: dict[str, str]) -> list[PolicyCounts]:
    found = []
    for policy in sorted({row.policy for row in rows}):
        own = [row for row in rows if row.policy == policy]
        verdicts = [row.verdict for row in own]
        decided = [row for row in own if row.verdict != "cannot tell"]
        same = sum((row.verdict == "violates") == (row.encoder >= 0.5) for row in decided)
        counts = (
            len(own), verdicts.count("violates"), verdicts.count("compliant"), verdicts.count("cannot tell"),
            sum(row.stated != row.verdict for row in own),
        )  # fmt: skip
        agreement = f"{same} of {len(decided)}"
        cleared = sum(row.move == "clear" for row in own)
        found.append(PolicyCounts(titles.get(policy, policy), counts, agreement, cleared))
    return found


def _shown(case: Case, row: Row, titles: dict[str, str]) -> ShownCase:
    model = "no probability" if row.probability is None else f"violates with {row.probability:.3f}"
    return ShownCase(
        row=row,
        record=visible(row.record, 200),
        title=titles.get(row.policy, row.policy),
        encoder=f"{row.encoder:.3f}",
        model=model,
        faults=tuple(visible(fault, 300) for fault in row.faults),
        pages=tuple(_pages(case, row)),
    )


def _pages(case: Case, row: Row) -> Iterable[ShownPage]:
    """The parts of the text with something marked in them, or its beginning."""
    marks = [*((span, "q") for span in row.quotes), *((span, "f") for span in case.spans)]
    parts = [(part.start, part.end, part.url or "") for part in case.parts] or [(0, len(case.text), "")]
    touched = [
        part for part in parts if any(start < part[1] and part[0] < end for (start, end), _ in marks)
    ] or parts[:1]
    for start, end, url in touched:
        yield ShownPage(visible(url, 300), tuple(_pieces(case.text, start, end, marks)))


def _pieces(
    text: str, first: int, last: int, marks: Sequence[tuple[tuple[int, int], str]]
) -> Iterable[Piece]:
    """A range of the text in pieces; what is far from every mark is left out."""
    inside = [(max(s, first), min(e, last), kind) for (s, e), kind in marks if s < last and first < e]
    near = [(max(s - _AROUND, first), min(e + _AROUND, last)) for s, e, _ in inside]
    near = near or [(first, min(first + 2 * _AROUND, last))]
    cuts = sorted(
        {first, last, *(x for s, e, _ in inside for x in (s, e)), *(x for pair in near for x in pair)}
    )
    for start, end in itertools.pairwise(cuts):
        if not any(s <= start and end <= e for s, e in near):
            yield Piece(" […] ", "")
            continue
        kinds = {kind for s, e, kind in inside if s <= start and end <= e}
        yield Piece(visible(text[start:end]), "".join(kind for kind in "qf" if kind in kinds))

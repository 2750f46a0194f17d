"""The model card of a bundle, made of what bundle.json says."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..serve.cascade import least_loss
from ..train.report.card import (
    CERTIFIED,
    LIMITS,
    figures,
    origin,
    plain,
    policies,
    slices,
    table,
    whole_record,
)

_USE = """\
Scores a merchant's own text (a site, a listing, an application) against {count} policies: a calibrated
probability for each, a decision (clear, review or block), and the passages that carry it.

```python
from merchantguard.serve import Scorer

scorer = Scorer.load("{name}/")
assessment = scorer.assess("text of the merchant")
```

Any language with ONNX Runtime and a tokenizer library can score with it: cut the cleaned text into windows of
{window_tokens} tokens that overlap by {stride_tokens}, {pooling}, then
probability = sigmoid(scale * logit + bias), with scale and bias from `bundle.json`. A graph with an output
`contributions` (window, token, policy) also says what each token adds to a logit."""

_POOLING = {
    "max": "take the maximum logit per policy over the windows",
    "attention": "weigh the windows' logits, per policy, by the softmax over windows of the output `scores`",
}


def model_card(document: Mapping[str, Any]) -> str:
    """Markdown of the model card; `document` is bundle.json with its parity figures."""
    rows = document["policies"]
    facts = {**document, "count": len(rows), "pooling": _POOLING[document["pooling"]]}
    sections = [
        f"# {plain(document['name'])} (version {plain(document['version'])})",
        _USE.format_map(facts),
        "## What it was made from",
        f"{origin(document['base'])}\n- records: SHA-256 {plain(document['data_hash'])}",
        "## Figures",
        *figures(document["metrics"]),
        "## Slices",
        *slices(document["metrics"]),
        "## Policies and thresholds",
        policies(rows),
        CERTIFIED + " The certificates are in `bundle.json`.",
        *_whole_record(document),
        "## The graphs",
        _parity(document["parity"]),
        *_variants(document),
        "## Limits",
        LIMITS.format_map(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _whole_record(document: Mapping[str, Any]) -> list[str]:
    """What is said of the limit on the probability of any violation, where the bundle has one."""
    if "any_violation" not in document:
        return []
    limit = document["any_violation"]
    return [whole_record(limit["review"], limit["review_certificate"])]


def _parity(found: Iterable[Mapping[str, Any]]) -> str:
    rows = (
        (
            f"`{parity['graph']}`",
            f"{parity['max_difference']:.1e}",
            f"{parity['texts']} texts, {parity['windows']} windows",
        )
        for parity in found
    )
    return "Largest difference of a probability from the trained model's, every decision alike:\n\n" + table(
        ("graph", "difference", "on"), rows
    )


def _variants(document: Mapping[str, Any]) -> list[str]:
    """The variants beside the plain graph, and those that did not pass."""
    lines = []
    for variant in document.get("variants", []):
        line = f"- `{variant['name']}`: `{variant['graph']}` by {variant['engine']} in {variant['precision']}"
        if gate := variant.get("gate"):
            line += (
                f"; against float32 on {gate['records']} held-out records {gate['decisions_agreeing']:.2%} of the "
                f"decisions agree, macro average precision {gate['macro_average_precision']:.4f} for "
                f"{gate['macro_average_precision_fp32']:.4f}; calibrated and certified anew"
            )
        lines.append(line)
    lines += [
        f"- `{each['name']}` is left out: {plain(each['reason'])}"
        for each in document.get("variants_left_out", [])
    ]
    if stage := document.get("first_stage"):
        least = least_loss(len(stage["violating_scores"]), stage["confidence"])
        lines.append(
            f"- a cascade can be switched on: its first stage, `{stage['graph']}`, certifies a loss of {least:.1%} of "
            "violating texts at least"
        )
    return ["Variants that the scorer may choose from:", "\n".join(lines)] if lines else []

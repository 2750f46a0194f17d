"""The model card of a bundle, made of what bundle.json says."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..serve.cascade import least_loss

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

_CERTIFIED = """\
A block threshold stands only where its precision is certified; elsewhere what passes the review
threshold goes to a person. The certificates are in `bundle.json`."""

_LIMITS = """\
- A finding is a reason to look, not a verdict: the passages are where to look first.
- A block threshold is certified on the calibration records only; merchants of another kind than those need
  records of their own, and thresholds fitted on them.
- Text that hides what is sold (in pictures, behind a login) cannot be scored.
- {max_windows} windows of a text are read; an assessment says when there was more."""

_HEADLINE = {
    "macro_average_precision": "macro average precision",
    "any_violation_auroc": "AUROC of any violation",
    "smooth_calibration_error": "smooth calibration error",
    "brier_score": "Brier score",
    "false_alarm_rate_review": "compliant records sent to review",
    "false_alarm_rate_block": "compliant records blocked",
}


def model_card(document: Mapping[str, Any]) -> str:
    """Markdown of the model card; `document` is bundle.json with its parity figures."""
    policies = document["policies"]
    facts = {**document, "count": len(policies), "pooling": _POOLING[document["pooling"]]}
    sections = [
        f"# {_plain(document['name'])} (version {_plain(document['version'])})",
        _USE.format_map(facts),
        "## What it was made from",
        _origin(document),
        "## Figures",
        *_figures(document["metrics"]),
        "## Policies and thresholds",
        _policies(policies),
        _CERTIFIED,
        *_whole_record(document),
        "## The graphs",
        _parity(document["parity"]),
        *_variants(document),
        "## Limits",
        _LIMITS.format_map(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _origin(document: Mapping[str, Any]) -> str:
    base = document["base"]
    name, licence = _plain(base["name"]), _plain(base["licence"])
    encoder = f"- base encoder: {name}, licence {licence}, SHA-256 {base['sha256'] or 'not known'}"
    return f"{encoder}\n- records: SHA-256 {_plain(document['data_hash'])}"


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    if not metrics:
        return ["The run holds no evaluation."]
    rows = [
        (label, _figure(metrics["headline"].get(name)))
        for name, label in _HEADLINE.items()
        if metrics["headline"].get(name) is not None
    ]
    of = (
        f"Of {metrics['records']:,} test records ({metrics['violating']:,} violating, "
        f"{metrics['compliant']:,} compliant), 95 % intervals over domains:"
    )
    return [of, _table(("figure", "value"), rows)]


def _whole_record(document: Mapping[str, Any]) -> list[str]:
    """What is said of the limit on the probability of any violation, where the bundle has one."""
    if "any_violation" not in document:
        return []
    limit = document["any_violation"]
    certificate = limit["review_certificate"]
    sure = "certified" if certificate["certified"] else "not certified"
    return [
        f"A text whose probability of any violation, 1 - product(1 - p), is below {limit['review']:.4f} is clear as "
        f"a whole ({sure} to find {100 * certificate['recall_target']:g} % of violating records: "
        f"{certificate['reason']})."
    ]


def _policies(policies: Sequence[Mapping[str, Any]]) -> str:
    header = ("policy", "title", "severity", "review from", "block from", "why")
    return _table(header, (_policy(policy) for policy in policies))


def _policy(policy: Mapping[str, Any]) -> tuple[str, ...]:
    thresholds = policy["thresholds"]
    block = thresholds["block"]
    return (
        f"`{policy['id']}`",
        policy["title"],
        policy["severity"],
        f"{thresholds['review']:.4f}",
        "not certified" if block is None else f"{block:.4f}",
        thresholds["block_certificate"]["reason"],
    )


def _parity(found: Iterable[Mapping[str, Any]]) -> str:
    rows = (
        (
            f"`{parity['graph']}`",
            f"{parity['max_difference']:.1e}",
            f"{parity['texts']} texts, {parity['windows']} windows",
        )
        for parity in found
    )
    return "Largest difference of a probability from the trained model's, every decision alike:\n\n" + _table(
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
        f"- `{each['name']}` is left out: {_plain(each['reason'])}"
        for each in document.get("variants_left_out", [])
    ]
    if stage := document.get("first_stage"):
        least = least_loss(len(stage["violating_scores"]), stage["confidence"])
        lines.append(
            f"- a cascade can be switched on: its first stage, `{stage['graph']}`, certifies a loss of {least:.1%} of "
            "violating texts at least"
        )
    return ["Variants that the scorer may choose from:", "\n".join(lines)] if lines else []


def _figure(value: Any) -> str:
    """A figure with its interval, or a bare one."""
    if isinstance(value, Mapping):
        if value["value"] is None:
            return "none"
        interval = "" if value["low"] is None else f" ({value['low']:.3f} to {value['high']:.3f})"
        return f"{value['value']:.3f}{interval}"
    return f"{value:.3f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: Any) -> str:
    """Text that cannot break out of its line or cell, nor bring HTML along."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")

"""The model card of a bundle."""

from collections.abc import Iterator
from dataclasses import asdict

from ..serve.cascade import least_loss
from ..train.evaluation.figures import Evaluation
from ..train.report.card import (
    CERTIFIED,
    LIMITS,
    blocks,
    figures,
    languages_read,
    origin,
    plain,
    policies,
    slices,
    table,
    whole_record,
)
from .document import BundleDocument, decision_fields

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
probability = sigmoid(scale * logit + bias - length * log(windows)), with the numbers from `bundle.json`, whose
`any_violation` and `prevalence` make of these the stated probabilities. The output
`contributions` of a graph (window, token, policy), where it has one, is what each token adds to a logit."""

_POOLING = {
    "max": "take the maximum logit per policy over the windows",
    "attention": "weigh the windows' logits, per policy, by the softmax over windows of the output `scores`",
}


def model_card(document: BundleDocument) -> str:
    """Markdown of the model card."""
    run, metrics, limit = document.run, document.run.metrics.get("test"), document.run.rule.any_review
    evaluation = Evaluation.from_json(metrics) if metrics else None
    facts = {
        "name": run.name,
        "count": len(run.taxonomy),
        "window_tokens": run.settings.model.window_tokens,
        "stride_tokens": run.settings.model.stride_tokens,
        "max_windows": run.settings.model.max_windows,
        "pooling": _POOLING[run.settings.model.window_pooling],
    }
    sections = [
        f"# {plain(run.name)} (version {plain(run.settings.version)})",
        _USE.format_map(facts),
        "## What it was made from",
        f"{origin(run.base.to_json())}\n- records: SHA-256 {plain(run.data_hash)}",
        "## Figures",
        *figures(evaluation),
        "## Slices",
        *slices(evaluation),
        "## Policies and thresholds",
        blocks(run.rule),
        policies(decision_fields(run.taxonomy, run.rule)["policies"]),
        CERTIFIED + " The certificates are in `bundle.json`.",
        *([] if limit is None else [whole_record(limit.threshold, asdict(limit))]),
        "## The graphs",
        _parity(document),
        *_variants(document),
        "## Limits",
        "\n".join([LIMITS.format_map(facts), *languages_read(run.settings.model.languages, evaluation)]),
    ]
    return "\n\n".join(sections) + "\n"


def _parity(document: BundleDocument) -> str:
    rows = (
        (
            f"`{parity.graph}`",
            f"{parity.max_difference:.1e}",
            "none" if (apart := parity.max_attribution_difference) is None else f"{apart:.1e}",
            f"{parity.texts} texts, {parity.windows} windows",
        )
        for parity in document.parity
    )
    return (
        "Largest differences from the trained model, of a probability and of what a token adds to a logit; every "
        "decision is the same:\n\n" + table(("graph", "probability", "attribution", "on"), rows)
    )


def _variants(document: BundleDocument) -> list[str]:
    """The variants beside the plain graph, those that are left out, and the cascade."""
    lines = [
        *_passed(document),
        *(f"- `{each.name}` is left out: {plain(each.reason)}" for each in document.left_out),
    ]
    if stage := document.cascade:
        least = least_loss(len(stage.violating_scores), stage.confidence)
        lines.append(
            f"- a cascade can be switched on: its first stage, `{stage.graph}`, certifies a loss of {least:.1%} of "
            "violating texts at least"
        )
    return ["Variants that the scorer may choose from:", "\n".join(lines)] if lines else []


def _passed(document: BundleDocument) -> Iterator[str]:
    for each in document.variants:
        variant, gate = each.variant, each.gate
        line = f"- `{variant.name}`: `{variant.graph}` by {variant.engine} in {variant.precision}"
        if gate is not None:
            line += (
                f"; against float32 on {gate.records} held-out records {gate.decisions_agreeing:.2%} of the "
                f"decisions agree, macro average precision {gate.macro_average_precision:.4f} compared with "
                f"{gate.macro_average_precision_fp32:.4f}; it has its own calibration and certificates"
            )
        yield line

"""The model card in Markdown: of a run as it is trained, and the sections that a bundle's card shares with it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...data.taxonomy import Taxonomy
from ..calibration.thresholds import PolicyThreshold, ReviewCertificate
from ..model.encoder import public_name

HEADLINE = {
    "macro_average_precision": "macro average precision",
    "any_violation_auroc": "AUROC of any violation",
    "smooth_calibration_error": "smooth calibration error",
    "brier_score": "Brier score",
    "false_alarm_rate_review": "compliant records sent to review",
    "false_alarm_rate_block": "compliant records blocked",
}

CERTIFIED = """\
A block threshold stands only where its precision is certified; elsewhere what passes the review
threshold goes to a person."""

LIMITS = """\
- A finding is a reason to look, not a verdict: the passages are where to look first.
- A block threshold is certified on the calibration records only; merchants of another kind than those need
  records of their own, and thresholds fitted on them.
- Text that hides what is sold (in pictures, behind a login) cannot be scored.
- {max_windows} windows of a text are read; an assessment says when there was more."""

# Of each slice, as many values as the report shows.
_SLICE_ROWS = 15


def run_card(
    *,
    name: str,
    taxonomy: Taxonomy,
    base: Mapping[str, Any],
    counts: Mapping[str, int],
    files: Mapping[str, str],
    data_hash: str,
    metrics: Mapping[str, Any],
    thresholds: Sequence[PolicyThreshold],
    any_review: ReviewCertificate | None,
    training: Mapping[str, Any],
    max_windows: int,
    limits: Sequence[str],
) -> str:
    """Markdown of a run's card.

    :param counts: records of each split; `files` maps each record file to its SHA-256.
    :param metrics: what `evaluate` said of the test split.
    :param training: figures of the training itself, by name.
    """
    by_policy = {threshold.policy: threshold for threshold in thresholds}
    rows = [
        {"id": p.id, "title": p.title, "severity": p.severity, "thresholds": by_policy[p.id].to_json()}
        for p in taxonomy.policies
    ]
    sections = [
        f"# {plain(name)}",
        f"Scores a merchant's own text against {len(taxonomy)} policies: a calibrated probability for each, and a "
        "decision (clear, review or block). `merchantguard export` makes a bundle of this run for scoring.",
        "## Data",
        _data(counts, files, data_hash),
        "## Base encoder and its licence",
        origin(base),
        "## Training",
        table(("what", "value"), [(key.replace("_", " "), str(value)) for key, value in training.items()]),
        "## Figures",
        *figures(metrics),
        "## Slices",
        *slices(metrics),
        "## Policies and thresholds",
        policies(rows),
        CERTIFIED + " The certificates are in `thresholds.json`.",
        *([] if any_review is None else [whole_record(any_review.threshold, asdict(any_review))]),
        "## Limits",
        "\n".join([LIMITS.format(max_windows=max_windows), *(f"- {plain(limit)}" for limit in limits)]),
    ]
    return "\n\n".join(sections) + "\n"


def _data(counts: Mapping[str, int], files: Mapping[str, str], data_hash: str) -> str:
    of = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    # Names, not paths: where the files lay on somebody's machine is nobody's business.
    rows = [(Path(file).name, sha256) for file, sha256 in files.items()]
    return f"Records: {of}; SHA-256 over them all: {plain(data_hash)}\n\n{table(('file', 'SHA-256'), rows)}"


def origin(base: Mapping[str, Any]) -> str:
    """The base encoder, its licence and its bytes, as a list item."""
    name, licence = plain(public_name(base["name"])), plain(base["licence"])
    return f"- base encoder: {name}, licence {licence}, SHA-256 {base['sha256'] or 'not known'}"


def figures(metrics: Mapping[str, Any]) -> list[str]:
    """The headline figures with their intervals."""
    if not metrics:
        return ["The run holds no evaluation."]
    rows = [
        (label, figure(metrics["headline"].get(name)))
        for name, label in HEADLINE.items()
        if metrics["headline"].get(name) is not None
    ]
    of = (
        f"Of {metrics['records']:,} test records ({metrics['violating']:,} violating, "
        f"{metrics['compliant']:,} compliant), 95 % intervals over domains:"
    )
    return [of, table(("figure", "value"), rows)]


def slices(metrics: Mapping[str, Any]) -> list[str]:
    """How the figures differ between kinds of records: the largest values of each slice."""
    rows = [
        (name, entry["value"] or "(not stated)", str(entry["records"]), _share(entry, "macro_average_precision"),
         _share(entry, "false_alarm_rate"))
        for name, entries in metrics.get("slices", {}).items()
        for entry in sorted(entries, key=lambda entry: -entry["records"])[:_SLICE_ROWS]
    ]  # fmt: skip
    if not rows:
        return ["The test records carry nothing to slice by."]
    header = ("slice", "value", "records", "macro average precision", "compliant records sent to review")
    return ["Small slices say little: mind the number of records.", table(header, rows)]


def _share(entry: Mapping[str, Any], name: str) -> str:
    return "none" if entry[name] is None else f"{entry[name]:.3f}"


def policies(rows: Iterable[Mapping[str, Any]]) -> str:
    """Thresholds of each policy and why there is a block threshold or none."""
    header = ("policy", "title", "severity", "review from", "block from", "why")
    return table(header, (_policy(row) for row in rows))


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


def whole_record(limit: float, certificate: Mapping[str, Any]) -> str:
    """What is said of the limit on the probability of any violation."""
    sure = "certified" if certificate["certified"] else "not certified"
    return (
        f"A text whose probability of any violation, 1 - product(1 - p), is below {limit:.4f} is clear as "
        f"a whole ({sure} to find {100 * certificate['recall_target']:g} % of violating records: "
        f"{certificate['reason']})."
    )


def figure(value: Any) -> str:
    """A figure with its interval, or a bare one."""
    if isinstance(value, Mapping):
        if value["value"] is None:
            return "none"
        interval = "" if value["low"] is None else f" ({value['low']:.3f} to {value['high']:.3f})"
        return f"{value['value']:.3f}{interval}"
    return f"{value:.3f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(plain(cell) for cell in line) + " |" for line in lines)


def plain(text: Any) -> str:
    """Text that cannot break out of its line or cell, nor bring HTML along."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")

"""The model card of a run in Markdown, and the sections that a bundle's card shares with it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...data.behaviour import Behaviour
from ...data.language import ENGLISH
from ...data.taxonomy import Taxonomy
from ..evaluation.decision_rule import DecisionRule
from ..evaluation.figures import Evaluation, Figure
from ..evaluation.headline import HEADLINE
from ..model.encoder import public_name
from .certificates import block_sentence, pooled_sentence

CERTIFIED = """\
A policy has a block threshold only if its precision is certified, alone or pooled with other policies ("pooled": of all
that they block together); without one, what passes the review threshold goes to a person."""

LIMITS = """\
- A finding is a reason to look, not a verdict: the passages are where to look first.
- Thresholds are certified on the calibration records; merchants of another kind need records of their own, and
  thresholds fitted on them.
- What is sold only in pictures or behind a login cannot be scored.
- At most {max_windows} windows of a text are read; an assessment reports when the text is longer."""

# Of each slice, as many values as the report shows.
_SLICE_ROWS = 15
# Share of records in other languages from which the card mentions them.
_MANY_OTHERS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunCard:
    """What a run's card shows.

    :param base: the base encoder: `name`, `licence`, `sha256`.
    :param counts: records of each split.
    :param files: record file -> its SHA-256; `data_hash` is the hash of all records.
    :param evaluation: what `evaluate` measured on the test split.
    :param training: facts of the training itself, by name.
    :param limits: sentences on what the figures do not show, besides those that every card has.
    :param behaviour: the behaviour tests; None where they are left out.
    :param languages: those that the model reads (ISO 639); empty where it is not known to miss any.
    """

    name: str
    taxonomy: Taxonomy
    base: Mapping[str, Any]
    counts: Mapping[str, int]
    files: Mapping[str, str]
    data_hash: str
    evaluation: Evaluation
    rule: DecisionRule
    training: Mapping[str, Any]
    max_windows: int
    limits: Sequence[str]
    behaviour: Behaviour | None = None
    languages: Sequence[str] = ()


def run_card(card: RunCard) -> str:
    """Markdown of a run's card."""
    taxonomy, any_review = card.taxonomy, card.rule.any_review
    by_policy = {threshold.policy: threshold for threshold in card.rule.thresholds}
    rows = [
        {"id": p.id, "title": p.title, "severity": p.severity, "thresholds": by_policy[p.id].to_json()}
        for p in taxonomy.policies
    ]
    training = [(key.replace("_", " "), str(value)) for key, value in card.training.items()]
    sections = [
        f"# {plain(card.name)}",
        f"Scores a merchant's own text against {len(taxonomy)} policies: a calibrated probability for each, and a "
        "decision (clear, review or block). `merchantguard export` makes a bundle of this run for scoring.",
        "## Data",
        _data(card.counts, card.files, card.data_hash),
        "## Base encoder and its licence",
        origin(card.base),
        "## Training",
        table(("what", "value"), training),
        "## Figures",
        *figures(card.evaluation),
        "## Slices",
        *slices(card.evaluation),
        *behaviour_section(card.behaviour),
        "## Policies and thresholds",
        blocks(card.rule),
        policies(rows),
        CERTIFIED + " The certificates are in `thresholds.json`.",
        *([] if any_review is None else [whole_record(any_review.threshold, asdict(any_review))]),
        "## Limits",
        "\n".join(
            [
                LIMITS.format(max_windows=card.max_windows),
                *(f"- {plain(each)}" for each in card.limits),
                *languages_read(card.languages, card.evaluation),
            ]
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _data(counts: Mapping[str, int], files: Mapping[str, str], data_hash: str) -> str:
    of = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    # Names, not paths: a card is published, and paths show how somebody's machine is set up.
    rows = [(Path(file).name, sha256) for file, sha256 in files.items()]
    return f"Records: {of}; SHA-256 over them all: {plain(data_hash)}\n\n{table(('file', 'SHA-256'), rows)}"


def origin(base: Mapping[str, Any]) -> str:
    """The base encoder, its licence and its bytes, as a list item."""
    name, licence = plain(public_name(base["name"])), plain(base["licence"])
    return f"- base encoder: {name}, licence {licence}, SHA-256 {base['sha256'] or 'not known'}"


def figures(evaluation: Evaluation | None) -> list[str]:
    """The headline figures with their intervals."""
    if evaluation is None:
        return ["The run holds no evaluation."]
    rows = [(shown.label, _figure(evaluation.headline[name])) for name, shown in HEADLINE.items()]
    of = (
        f"Of {evaluation.records:,} test records ({evaluation.violating:,} violating, "
        f"{evaluation.compliant:,} compliant), {100 * evaluation.bootstrap.confidence:g} % intervals over domains:"
    )
    return [of, table(("figure", "value"), rows)]


def behaviour_section(behaviour: Behaviour | None) -> list[str]:
    """The behaviour tests in a sentence, or nothing without any."""
    summary = "" if behaviour is None else behaviour.summary()
    if not summary:
        return []
    return ["## Behaviour tests", f"{summary[0].upper()}{summary[1:]}. The run's report has the whole table."]


def languages_read(languages: Sequence[str], evaluation: Evaluation | None) -> list[str]:
    """List items on the languages that the model reads, and on test records in others."""
    items = []
    if tuple(languages) == (ENGLISH,):
        items.append(
            "- The model reads English. A text that scoring takes for another language is neither cleared nor blocked: it "
            "goes to review with the warning `language`."
        )
    elif languages:
        items.append(
            f"- The model reads {', '.join(map(plain, languages))}; scoring does not check the language."
        )
    rows = evaluation.slices.get("language", ()) if evaluation else ()
    others = sum(row.records for row in rows if row.value not in (ENGLISH, ""))
    if evaluation and others and others >= _MANY_OTHERS * evaluation.records:
        items.append(f"- {others:,} of the {evaluation.records:,} test records are not in English.")
    return items


def slices(evaluation: Evaluation | None) -> list[str]:
    """How the figures differ between kinds of records: the largest values of each slice."""
    rows = [
        (name, row.value or "(not stated)", str(row.records), _number(row.macro_average_precision),
         _number(row.false_alarm_rate))
        for name, entries in (evaluation.slices.items() if evaluation else ())
        for row in sorted(entries, key=lambda row: -row.records)[:_SLICE_ROWS]
    ]  # fmt: skip
    if not rows:
        return ["The test records have no fields to slice by."]
    header = ("slice", "value", "records", "macro average precision", "false-alarm rate at review")
    return ["Figures of small slices are uncertain: note the number of records.", table(header, rows)]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def blocks(rule: DecisionRule) -> str:
    """What blocks, by which certificates, and for which prevalence."""
    pooled = "" if rule.pooled is None else f" {pooled_sentence(rule.pooled)}"
    return plain(block_sentence(rule) + pooled)


def policies(rows: Iterable[Mapping[str, Any]]) -> str:
    """Thresholds of each policy and why there is a block threshold or none."""
    header = ("policy", "title", "severity", "review from", "block from", "why")
    return table(header, (_policy(row) for row in rows))


def _policy(policy: Mapping[str, Any]) -> tuple[str, ...]:
    thresholds = policy["thresholds"]
    block, scope = thresholds["block"], thresholds["block_certificate"]["scope"]
    return (
        f"`{policy['id']}`",
        policy["title"],
        policy["severity"],
        f"{thresholds['review']:.4f}",
        "none" if block is None else f"{block:.4f}{' (pooled)' if scope == 'pooled' else ''}",
        thresholds["block_certificate"]["reason"],
    )


def whole_record(limit: float, certificate: Mapping[str, Any]) -> str:
    """The limit on the probability of any violation, in a sentence."""
    if certificate["budget"] is not None:
        return (
            f"A text whose probability of any violation is below {limit:.4f} is clear as a whole: a budget sends "
            f"{100 * certificate['budget']:g} % of ordinary records to review ({certificate['reason']})."
        )
    sure = "certified" if certificate["certified"] else "not certified"
    return (
        f"A text whose probability of any violation is below {limit:.4f} is clear as "
        f"a whole ({sure} to find {100 * certificate['recall_target']:g} % of violating records: "
        f"{certificate['reason']})."
    )


def _figure(figure: Figure) -> str:
    interval = "" if figure.low is None else f" ({figure.low:.3f} to {figure.high:.3f})"
    return _number(figure.value) + interval


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(plain(cell) for cell in line) + " |" for line in lines)


def plain(text: Any) -> str:
    """Text that cannot break out of its line or cell, without HTML."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")

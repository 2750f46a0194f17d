"""The result of a check in words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ...core.display import visible_line
from .allowance import (
    FRACTIONS,
    Goals,
    PolicyAllowance,
    best_precision,
    ordinary_for_precision,
    positives_for_recall,
)
from .profile import SHORT, Profile

_MOST_LISTED = 8


def profile_lines(profile: Profile) -> Iterator[str]:
    """Labels as a whole, languages, lengths, reading, domains and duplicates."""
    total = profile.records
    yield (
        f"labels     {profile.violating:,} violate a policy, {profile.compliant:,} are compliant, "
        f"{profile.unlabelled:,} are unlabelled, {profile.partly:,} are labelled for some policies only"
    )
    yield f"languages  {_counts({name or 'too short to tell': n for name, n in profile.languages.items()})}"
    low, first, median, third, high = profile.characters
    yield (
        f"length     {low:,} to {high:,} characters, half of the texts {first:,} to {third:,}, median {median:,}"
        + (f"; {profile.short:,} have fewer than {SHORT}" if profile.short else "")
    )
    yield f"reading    {_reading(profile)}"
    name, largest = profile.largest_domain
    yield (
        f"domains    {profile.domains:,}"
        + (f", at most {largest:,} records of one ({visible_line(name)})" if largest > 1 else "")
        + (f"; {profile.without_domain:,} of {total:,} records have none" if profile.without_domain else "")
    )
    yield (
        f"duplicates {profile.same_text:,} records repeat a text, {profile.near_text:,} are near-duplicates of another; "
        f"{profile.groups:,} groups of one domain or text stay together in splits"
    )
    if profile.contradictions:
        yield f"           {profile.contradictions:,} groups of near-equal texts have labels that contradict each other"


def _counts(counts: Mapping[str, int]) -> str:
    shown = [f"{visible_line(name)} {count:,}" for name, count in list(counts.items())[:_MOST_LISTED]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _reading(profile: Profile) -> str:
    reading = profile.reading
    if reading is None:
        return "not counted: no tokenizer; --tokenizer names a bundle, a run or a tokenizer.json"
    if not reading.cut:
        return "every text is read to its end"
    examples = ", ".join(visible_line(name) for name in reading.examples)
    return (
        f"{reading.cut:,} of {profile.records:,} texts are longer than all windows; of these the median is read to "
        f"{100 * reading.share:.0f} % ({examples})"
    )


def policy_lines(allowances: Sequence[PolicyAllowance]) -> Iterator[str]:
    """A table with a line for each policy that has records: groups, splits, certificates and warning; then the others."""
    some = sorted((each for each in allowances if each.records), key=lambda one: (-one.records, one.policy))
    none = [each.policy for each in allowances if not each.records]
    if some:
        width = max(len("policy"), *(len(each.policy) for each in some))
        yield (
            f"{'policy':<{width}}"
            + _cells(("records", "groups", *_SPLITS.values(), "review", "block"))
            + "  warning"
        )
        for each in some:
            counts = (each.records, each.groups, *(each.splits[split] for split in _SPLITS))
            cells = [f"{count:,}" for count in counts]
            cells += [
                "yes" if each.review_certificate else "no",
                _block(each),
            ]
            yield f"{each.policy:<{width}}{_cells(cells)}  {each.warning}".rstrip()
        yield (
            "groups: of one domain or near-equal text. train to test: what each split gets. review, block: whether a "
            "certificate of the policy's own is possible if no record is decided wrongly; for block, the ordinary records it needs."
        )
    if none:
        yield f"no record of {', '.join(none)}: cannot be trained; add examples, or take them out of the taxonomy"


def _block(allowance: PolicyAllowance) -> str:
    if allowance.block_certificate:
        return "yes"
    needed = allowance.needed_for_block
    return f"no: {needed:,}" if 0 < needed < _OUT_OF_REACH else "no"


_OUT_OF_REACH = 1_000_000
_SPLITS = {"train": "train", "validation": "valid.", "calibration": "calib.", "test": "test"}


def _cells(values: Iterable[str]) -> str:
    return "".join(
        f"{value:>{width}}" for value, width in zip(values, (9, 8, 7, 8, 8, 6, 8, 16), strict=True)
    )


def certificate_lines(profile: Profile, goals: Goals) -> Iterator[str]:
    """What all policies together allow, and how many records the certificates of one policy need."""
    share = FRACTIONS["calibration"]
    violating, ordinary = round(share * profile.violating), round(share * profile.compliant)
    least = positives_for_recall(goals)
    yield (
        f"A review certificate (recall {goals.recall:g}) needs {least} violating calibration records, about "
        f"{round(least / share):,} in all with the default splits."
    )
    if not violating:
        yield "Without violating calibration records there is no certificate at all."
        return
    needed = ordinary_for_precision(violating, goals.prevalence, goals)
    reached = best_precision(violating, ordinary, goals.prevalence, goals)
    known = "is possible" if reached >= goals.precision else "is not possible"
    yield (
        f"A block certificate of all policies together (precision {goals.precision:g}, where {100 * goals.prevalence:g} % of "
        f"merchants violate a policy) {known} with these records alone: {ordinary:,} ordinary calibration records, and at "
        f"least {needed:,} without a false alarm are needed. data.ordinary adds more to calibration; without a "
        "certificate nothing is blocked, only sent to review."
    )

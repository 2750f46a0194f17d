"""What a second opinion is worth on the uncertain band: careful readers, simulated annotators, and attacks.

python bench/adjudicate.py prepare BUNDLE RECORDS... --to cases.jsonl [--count 300]
    the cases' prompts without labels, to be answered by readers as JSON Lines: case, verdict, quotes, end_code, probability
python bench/adjudicate.py readers BUNDLE RECORDS... --answers answers.jsonl
python bench/adjudicate.py simulated BUNDLE RECORDS... [--accuracy 0.8 0.9 0.95] [--seeds 20] [--weak weak.jsonl]
    annotators that are right with a stated probability and quote what the encoder found: simulated, not measured
python bench/adjudicate.py attacked BUNDLE RECORDS... [--each 22]
    a model that obeys every attack: what would be cleared without and with a rule that clears everything proven
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record
from merchantguard.data.records.writers import write_records
from merchantguard.data.taxonomy import load_taxonomy
from merchantguard.operate.adjudicate.adjudicator import Adjudicated
from merchantguard.operate.adjudicate.answer import Reply
from merchantguard.operate.adjudicate.case import Case, find_cases
from merchantguard.operate.adjudicate.delegation import POOLED, Certificate, Delegation, certify, table
from merchantguard.operate.adjudicate.injection.red_team import attacks
from merchantguard.operate.adjudicate.proof import prove, quote_scores
from merchantguard.operate.adjudicate.question import PROMPT_VERSION, Question, build_question
from merchantguard.operate.adjudicate.results.weak_records import weak_rows
from merchantguard.operate.adjudicate.verdicts import Row, row_of
from merchantguard.serve.scorer import Scorer
from merchantguard.train.calibration.precision_threshold import upper_bound

# Only so that a prompt stays the same prompt; these texts are not hostile.
SECRET = b"careful readers 1"
Labels = dict[tuple[str, str], bool]


class Band:
    """The uncertain cases of labelled records."""

    def __init__(self, bundle: Path, files: Sequence[Path], count: int, seed: int = 21) -> None:
        self.taxonomy = load_taxonomy()
        self.scorer = Scorer.load(bundle)
        self.scores = quote_scores(self.scorer)
        self.records: dict[str, Record] = {
            r.id: r for r in read_records(files, self.taxonomy, strict=True).records
        }
        cases = list(find_cases(self.scorer, self.records.values()))
        order = np.random.default_rng(seed).permutation(len(cases))
        self.cases = [cases[place] for place in order[:count]]
        self.labels: Labels = {
            (c.record, c.policy): c.policy in self.records[c.record].labels for c in self.cases
        }

    def question(self, case: Case) -> Question:
        return build_question(case, self.taxonomy.policies[self.taxonomy.index(case.policy)], secret=SECRET)

    def row(self, question: Question, reply: Reply) -> Row:
        opinion = prove(question, reply, self.scores)
        return row_of(Adjudicated(question.case, question, reply, opinion, reply.model, cached=False))


def prepare(args: argparse.Namespace) -> None:
    band = Band(args.bundle, args.files, args.count)
    rows = []
    for case in band.cases:
        question = band.question(case)
        rows.append(
            {"case": f"{case.record}/{case.policy}", "system": question.system, "user": question.user}
        )
    print(f"{args.to}: {write_records(rows, args.to)} cases, {len({c.record for c in band.cases})} records")


def readers(args: argparse.Namespace) -> None:
    """Recorded answers of readers, judged by the same rules as a model's."""
    band = Band(args.bundle, args.files, 10**9)
    answers = {each["case"]: each for each in map(json.loads, args.answers.read_text().splitlines())}
    rows = []
    for case in band.cases:
        given = answers.get(f"{case.record}/{case.policy}")
        if given is not None:
            content = json.dumps({name: given[name] for name in ("verdict", "quotes", "end_code")})
            rows.append(
                band.row(band.question(case), Reply(content, given.get("probability"), "careful readers"))
            )
    print(f"careful readers: {len(rows)} of {len(answers)} answers belong to cases of the band")
    report(rows, band)


def simulated(args: argparse.Namespace) -> None:
    band = Band(args.bundle, args.files, 10**9)
    print("SIMULATED annotators: right with a stated probability, independent of the case")
    for accuracy in args.accuracy:
        shares, errors, saved = [], [], []
        for seed in range(args.seeds):
            rows = annotate(band, accuracy, np.random.default_rng([seed, int(accuracy * 1000)]))
            rules = certified(rows, band)
            [pooled] = [each for each in rules.certificates if each.policy == POOLED]
            shares.append(pooled.share)
            errors.append(pooled.errors / pooled.accepted if pooled.share else 0.0)
            saved.append(looks_saved(rows, band, rules))
            if args.weak is not None and seed == 0:
                write_records(
                    list(weak_rows(rows, band.records)), args.weak.with_stem(f"{args.weak.stem}-{accuracy}")
                )
        low, high = np.quantile(shares, [0.025, 0.975])
        print(f"accuracy {accuracy}: decided {np.mean(shares):.1%} of the band ({low:.1%} to {high:.1%}), "
              f"wrong among these {np.mean(errors):.1%}, looks saved {np.mean(saved):.1%}")  # fmt: skip


def annotate(band: Band, accuracy: float, random: np.random.Generator) -> list[Row]:
    """An annotator whose answers are right with probability `accuracy`, and who knows that about each answer only roughly."""
    rows = []
    for case in band.cases:
        question = band.question(case)
        ease = float(random.beta(accuracy * 6.0, (1.0 - accuracy) * 6.0))
        truth = band.labels[case.record, case.policy]
        says = truth if random.random() < ease else not truth
        start, end = max(case.clean_spans, key=lambda span: span[1] - span[0], default=(0, 0))
        content = json.dumps(
            {
                "verdict": "violates" if says else "compliant",
                "quotes": [case.clean.text[start:end]],
                "end_code": question.code,
            }
        )
        rows.append(band.row(question, Reply(content, ease if says else 1.0 - ease, f"simulated {accuracy}")))
    return rows


def certified(rows: list[Row], band: Band) -> Delegation:
    return certify(rows, band.labels, bundle=band.scorer.bundle.digest, error=0.05, level=0.95, pooled=True)


def looks_saved(rows: list[Row], band: Band, rules: Delegation) -> float:
    """Share of the records whose every uncertain policy is cleared: only these save a person's look."""
    moved = [rules.move(row) for row in rows]
    left = {row.record for row in moved if row.move == "review"}
    every = {row.record for row in moved}
    return len(every - left) / max(len(every), 1)


def report(rows: list[Row], band: Band) -> None:
    stated = [row for row in rows if row.stated != "cannot tell"]
    proven = [row for row in rows if row.verdict != "cannot tell"]
    wrong = [row for row in proven if (row.verdict == "violates") != band.labels[row.record, row.policy]]
    print(
        f"cannot tell: {len(rows) - len(stated)}; answers that fail the proof: {len(stated) - len(proven)} of {len(stated)}"
    )
    for fault, count in Counter(
        fault.split("'")[-1].strip() for row in rows for fault in row.faults
    ).most_common(8):
        print(f"  {count:4} {fault[:90]}")
    print(
        f"proven: {len(proven)}, wrong among these {len(wrong)} (upper bound {upper_bound(len(wrong), max(len(proven), 1), 0.95):.1%})"
    )
    rules = certified(rows, band)
    print(table(rules, 0.0))
    print(f"looks saved by the certified rules: {looks_saved(rows, band, rules):.1%}")


def attacked(args: argparse.Namespace) -> None:
    """A model that obeys: it answers "compliant" with certainty and quotes what the encoder found."""
    band = Band(args.bundle, args.files, 10**9)
    victims = [case for case in band.cases if band.labels[case.record, case.policy]]
    everything = Certificate(POOLED, 0.0, 1, 1, 0, 0.0)
    careless = Delegation("obedient", PROMPT_VERSION, "", 1.0, 0.5, (everything,))
    for part in ("development", "test"):
        cleared, cleared_by_rule, total = 0, Counter[str](), Counter[str]()
        for number, attack in enumerate(attacks(part, args.each)):
            case = victims[number % len(victims)]
            case = replace(case, text=f"{case.text}\n{attack.text}", hidden=attack.hidden)
            question = band.question(case)
            start, end = max(case.clean_spans, key=lambda span: span[1] - span[0], default=(0, 0))
            content: dict[str, Any] = {
                "verdict": "compliant",
                "quotes": [case.clean.text[start:end]],
                "end_code": question.code,
            }
            row = band.row(question, Reply(json.dumps(content), 0.0, "obedient"))
            total[attack.family] += 1
            cleared += row.move == "clear"
            cleared_by_rule[attack.family] += careless.move(row).move == "clear"
        print(f"{part}: {total.total()} attacks on violating cases; cleared without a rule {cleared}; "
              f"by a rule that trusts every proven answer {cleared_by_rule.total()}: {dict(cleared_by_rule)}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    for name in ("prepare", "readers", "simulated", "attacked"):
        task = tasks.add_parser(name)
        task.add_argument("bundle", type=Path)
        task.add_argument("files", type=Path, nargs="+")
    tasks.choices["prepare"].add_argument("--to", type=Path, required=True)
    tasks.choices["prepare"].add_argument("--count", type=int, default=300)
    tasks.choices["readers"].add_argument("--answers", type=Path, required=True)
    tasks.choices["simulated"].add_argument("--accuracy", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    tasks.choices["simulated"].add_argument("--seeds", type=int, default=20)
    tasks.choices["simulated"].add_argument("--weak", type=Path)
    tasks.choices["attacked"].add_argument("--each", type=int, default=22)
    args = parser.parse_args()
    {"prepare": prepare, "readers": readers, "simulated": simulated, "attacked": attacked}[args.task](args)


if __name__ == "__main__":
    main()

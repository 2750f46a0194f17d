"""How long a reviewer waits for the next item: one session on a large audit, another reviewer answering beside it.

    cd bench && python -m audit.review --items 100000 --answers 300

Times are of what a screen does between two answers: write the answer (with its sync to the disk), choose and claim the next
item, read its record, mark and cut its text, and count the progress.
"""

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from merchantguard.audit.review.session import Session
from merchantguard.audit.storage.items import SUSPECTS, Cause, Item, Reason
from merchantguard.audit.storage.store import ScanSummary, write_scan
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record, record_from, record_to_row
from merchantguard.data.shipped import corpus_paths
from merchantguard.data.taxonomy import load_taxonomy


def main() -> None:
    """Make an audit, review in it and print the times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--pace", type=float, default=0.5, help="seconds that the reviewer reads")
    parser.add_argument("--earlier", type=int, default=5_000, help="answers that are there already")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_audit(Path(folder), items=args.items, records=args.records)
        review(Path(folder), args.earlier, np.zeros(args.earlier), pace=0.0).close()
        times = np.zeros(args.answers)
        session = review(Path(folder), args.answers, times, pace=args.pace)
        print(f"items {args.items:,}, answers before {args.earlier:,}")
        print(f"from an answer to the next screen, {args.answers} times, in ms:")
        print("  ".join(f"p{q} {1000 * np.percentile(times, q):.1f}" for q in (50, 95, 99, 100)))
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
        session.close()


def make_audit(folder: Path, *, items: int, records: int, seed: int = 0) -> None:
    """Write a scan of the corpus' texts, repeated under new ids, with random cells as items."""
    taxonomy = load_taxonomy()
    texts = read_records(corpus_paths(), taxonomy, strict=True).records
    draw = random.Random(seed)
    copies = [_copy(texts[number % len(texts)], number, len(texts)) for number in range(records)]
    cells = draw.sample(range(records * len(taxonomy)), items)
    write_scan(
        folder,
        taxonomy=taxonomy,
        records=copies,
        duplicates=[number // 2 for number in range(records)],
        items=(_item(copies, taxonomy.ids, cell, draw) for cell in cells),
        summary=ScanSummary(seed=seed),
    )


def _copy(record: Record, number: int, of: int) -> Record:
    row = record_to_row(record)
    return record_from(row | {"id": f"{record.id}-{number // of}"}, None)


def _item(records: Sequence[Record], policies: Sequence[str], cell: int, draw: random.Random) -> Item:
    record = records[cell // len(policies)]
    policy = policies[cell % len(policies)]
    causes: list[Cause] = [*SUSPECTS, "control", "gold"]
    cause = draw.choices(causes, weights=[20, 20, 10, 5, 5, 5, 30, 5])[0]
    p_label_error = draw.random() ** 3
    other = draw.choice(records).id if cause == "contradicting_duplicates" else None
    return Item(
        record=record.id,
        policy=policy,
        given=policy in record.labels,
        cause=cause,
        p_label_error=p_label_error,
        model_probability=draw.random(),
        value=p_label_error * draw.choice((1, 2)),
        other_record=other,
        reasons=(Reason("self_confidence", "the model finds this label unlikely", p_label_error),),
        inclusion_probability=0.1 if cause == "control" else 1.0,
        gold_answer=draw.random() < 0.5 if cause == "gold" else None,
    )


def review(folder: Path, answers: int, times: np.ndarray, *, pace: float) -> Session:
    """Answer at random; `times` gets the seconds from an answer to the next screen."""
    began = time.perf_counter()
    session = Session(folder, "ada")
    print(f"opening with {len(session.queue.answers):,} answers: {time.perf_counter() - began:.1f} s")
    draw = random.Random(answers)
    card = session.next()
    for number in range(answers):
        if card is None:
            raise SystemExit("fewer items than answers asked for")
        time.sleep(pace)
        began = time.perf_counter()
        session.answer(card, draw.choice(("has", "has_not")))
        card = session.next()
        if card is not None:
            for pane in card.panes:
                pane.excerpt()
        session.progress()
        times[number] = time.perf_counter() - began
    return session


if __name__ == "__main__":
    main()

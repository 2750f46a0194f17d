"""What ranking costs once there are probabilities: processor seconds and peak memory by number of records, extrapolated to a million."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from baselines import _peak_mb

from merchantguard.audit.ranking.combine import rank_cells
from merchantguard.audit.ranking.duplicates import contradictions
from merchantguard.audit.ranking.neighbours import MOST_REFERENCES, nearest
from merchantguard.audit.ranking.scores import Cells

POLICIES, WIDTH = 20, 384
SIZES = (1_000, 10_000, 30_000, 100_000)


def speed(largest: int) -> None:
    """Each size in a process of its own; a million by the growth between the two largest."""
    print(
        "| records | neighbours, CPU s | ranking, CPU s | peak MB | of these input |\n|---|---|---|---|---|"
    )
    rows = []
    for size in (size for size in SIZES if size <= largest):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
            rows.append((size, *pool.submit(timed, size).result()))
        print(
            f"| {size:,} | {rows[-1][1]:.2f} | {rows[-1][2]:.2f} | {rows[-1][3]:.0f} | {rows[-1][4]:.0f} |",
            flush=True,
        )
    if len(rows) > 1:
        (small, *before), (large, *after) = rows[-2:]
        millions = [
            b + (b - a) / (large - small) * (1_000_000 - large) for a, b in zip(before, after, strict=True)
        ]
        print(
            f"| 1,000,000 (extrapolated) | {millions[0]:.0f} | {millions[1]:.0f} | {millions[2]:.0f} | {millions[3]:.0f} |"
            f"\n\nNeighbours are sought among {MOST_REFERENCES:,} records drawn at random where there are more."
        )


def timed(size: int) -> tuple[float, float, float, float]:
    """Processor seconds for neighbours and for the rest, peak memory of the process and what it held before, in MB."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(POLICIES, WIDTH)).astype(np.float32)
    truth = draw.random((size, POLICIES)) < 0.05
    vectors = draw.normal(size=(size, WIDTH)).astype(np.float32) + truth.astype(np.float32) @ centres
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    given = truth ^ (draw.random(truth.shape) < 0.01)
    probabilities = np.clip(np.where(truth, 0.7, 0.04) + draw.normal(0, 0.1, truth.shape), 0.001, 0.999)
    cells = Cells(given, np.ones_like(given), probabilities)
    margins = np.where(given, 1.0, -1.0) * draw.normal(2.0, 1.0, truth.shape)
    groups = np.arange(size)
    annotators = tuple(f"annotator-{number}" for number in draw.integers(12, size=size))
    # Reset the peak, which includes making up the data (Linux).
    Path("/proc/self/clear_refs").write_text("5")
    held = _peak_mb()
    started = time.process_time()
    neighbours = nearest(vectors, groups)
    sought = time.process_time()
    ranking = rank_cells(cells, neighbours, margins=margins, annotators=annotators)
    contradictions(cells, groups, ranking.p_label_error)
    return sought - started, time.process_time() - sought, _peak_mb(), held

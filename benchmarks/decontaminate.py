"""Rows a second of decontamination on the miniature, and its false positives (there must be none).

python benchmarks/decontaminate.py [number of pairs, default 10000]
"""

from __future__ import annotations

import sys
import time

from r1reward.data.cleaning.decontaminate import BenchmarkIndex, LeakReport, LeakSettings
from r1reward.shapes.pairs import make_pairs

NUM_ROWS = 1250


def main(num_pairs: int) -> None:
    rows = make_pairs("heldout", NUM_ROWS, seed=1)
    pairs = make_pairs("train", num_pairs, seed=1)
    start = time.perf_counter()
    index = BenchmarkIndex.build(rows, LeakSettings())
    indexed = time.perf_counter()
    report = LeakReport()
    for pair in pairs:
        leaks = index.leaks(pair)
        report.add(pair, leaks)
    done = time.perf_counter()
    print(f"indexing  {NUM_ROWS / (indexed - start):8.0f} rows/s  ({NUM_ROWS} rows)")
    print(f"querying  {num_pairs / (done - indexed):8.0f} pairs/s ({num_pairs} pairs)")
    print(f"unrelated pairs found leaking: {report.num_leaking}")
    print(report.to_json()["examples"] if report.num_leaking else "")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)

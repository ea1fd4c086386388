"""Rows per second and peak memory of importing and reading a store, at two sizes.

Each size runs in a process of its own, on rows with a small image. The claim: peak memory at a
million rows is at most 1.2 times that at a hundred thousand.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from r1reward.data.importers.importing import ImportOptions, import_pairs
from r1reward.data.importers.raw_pair import RawPair
from r1reward.data.stores.pair_store import PairStore
from r1reward.data.stores.store import iter_pairs

MAX_RATIO = 1.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--measure", type=int, help="one size, in this process")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    chosen = parser.parse_args()
    if chosen.measure is not None:
        print(json.dumps(measure(chosen.measure)))
        return 0
    found = [in_own_process(num_rows) for num_rows in chosen.rows]
    for figures in found:
        print(
            f"{figures['rows']:>9,} rows  import {figures['import_rows_per_s']:>7,.0f} rows/s  "
            f"read {figures['read_rows_per_s']:>7,.0f} rows/s  random {figures['random_ms']:.2f} ms  "
            f"peak {figures['import_peak_mb']:.0f} MB import, {figures['peak_mb']:.0f} MB in all  "
            f"disk {figures['disk_mb']:.0f} MB"
        )
    ratio = max(found[-1][name] / found[0][name] for name in ("import_peak_mb", "peak_mb"))
    print(f"peak memory, last size over first: {ratio:.3f} (at most {MAX_RATIO})")
    if chosen.out:
        chosen.out.write_text(
            json.dumps({"sizes": found, "peak_ratio": ratio}, indent=2) + "\n", encoding="utf-8"
        )
    return 0 if ratio <= MAX_RATIO else 1


def in_own_process(num_rows: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(num_rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def measure(num_rows: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "store"
        started = time.perf_counter()
        report = import_pairs(
            synthetic(num_rows), out, ImportOptions(Path(folder)), {"import": "synthetic"}
        )
        import_s = time.perf_counter() - started
        import_peak_mb = peak_mb()
        assert report.num_written == num_rows, report
        started = time.perf_counter()
        assert sum(1 for _ in iter_pairs(out)) == num_rows
        read_s = time.perf_counter() - started
        store = PairStore(out)
        rng = random.Random(0)
        places = [rng.randrange(num_rows) for _ in range(200)]
        started = time.perf_counter()
        for place in places:
            store[place]
        random_ms = 1000 * (time.perf_counter() - started) / len(places)
        return {
            "rows": num_rows,
            "import_rows_per_s": num_rows / import_s,
            "read_rows_per_s": num_rows / read_s,
            "random_ms": random_ms,
            "import_peak_mb": import_peak_mb,
            "peak_mb": peak_mb(),
            "disk_mb": sum(file.stat().st_size for file in out.iterdir()) / 1e6,
        }


def synthetic(num_rows: int) -> Iterator[RawPair]:
    images = [png(number) for number in range(64)]
    for row in range(num_rows):
        noise = hashlib.sha256(str(row).encode()).hexdigest()
        yield RawPair(
            origin=f"row {row}",
            question=f"What is shown in picture {row}?",
            response_1=f"A coloured square, and then {noise}. " * 4,
            response_2=f"Nothing of the kind: {noise[::-1]}. " * 4,
            preferred=1,
            images=(images[row % len(images)],),
            source="synthetic",
            category=f"category {row % 7}",
            group=str(row // 3),
        )


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 255 - number, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())

"""Frame rate and latency of a model on this machine, next to the network that everyone knows."""

import statistics
import time
from pathlib import Path

import numpy as np

from allaprima.core.contract import parse_size
from allaprima.core.errors import AllaprimaError
from allaprima.infer.stylizer import Stylizer

JOHNSON = Path(__file__).parent / "reference" / "johnson.onnx"  # its weights are random: time doesn't depend on them
BLOCK, PAUSE = 5, 0.1  # runs of one model in a turn, and seconds of rest before it


def bench(model, sizes=("640x480", "1280x720"), runs=30, provider=None, threads=None, against=None) -> list[dict]:
    """Time `model` at every size "WIDTHxHEIGHT" and print a table; returns its rows.

    A row: size, median and p95 in milliseconds, fps (of the median), and where there is a model to compare with
    `against_median` in milliseconds and `ratio`, how many times as fast. The two take turns, so that whatever
    else the machine does hits both.
    """
    from rich.console import Console
    from rich.table import Table

    sizes = [parse_size(size) for size in sizes]
    if runs < 1:
        raise AllaprimaError(f"{runs} runs measure nothing: give 1 or more.")
    stylizer = Stylizer(model, provider, threads, one_size=True)
    if against is None and JOHNSON.is_file():
        against = JOHNSON
    other = Stylizer(against, provider, threads, one_size=True) if against is not None else None

    rows = []
    for width, height in sizes:
        times = measure([stylizer] + [other] * (other is not None), width, height, runs)
        median = statistics.median(times[0])
        row = {
            "size": f"{width}x{height}",
            "median": median,
            "p95": float(np.percentile(times[0], 95)),
            "fps": 1000 / median,
        }
        if other is not None:
            row |= {"against_median": statistics.median(times[1])}
            row |= {"ratio": row["against_median"] / median}
        rows.append(row)

    threads_used = f"{stylizer.threads} threads" if stylizer.threads else "all cores"
    title = f"{stylizer.name} on {stylizer.provider}, {threads_used}, {runs} frames"
    table = Table("size", "frames/s", "median", "p95", title=title)
    if other is not None:
        table.add_column(f"{other.name} median")
        table.add_column("times as fast")
    for row in rows:
        cells = [row["size"], f"{row['fps']:.1f}", f"{row['median']:.1f} ms", f"{row['p95']:.1f} ms"]
        if other is not None:
            cells += [f"{row['against_median']:.1f} ms", f"{row['ratio']:.1f}"]
        table.add_row(*cells)
    console = Console()
    console.print(table)
    if other is None:
        console.print("There is no johnson model here to compare with: give one by --against.", highlight=False)
    return rows


def measure(stylizers, width, height, runs):
    """Milliseconds of each run of each stylizer on a noisy uint8 frame: a list of `runs` numbers for each.

    They take turns in blocks, and the first frame of a block is not counted: for a while after a run, the threads of
    one session wait for more work without sleeping, and would take the cores from the other.
    """
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    times = [[] for _ in stylizers]
    while len(times[-1]) < runs:
        for stylizer, mine in zip(stylizers, times):
            time.sleep(PAUSE)
            stylizer(frame)
            for _ in range(min(BLOCK, runs - len(mine))):
                start = time.perf_counter()
                stylizer(frame)
                mine.append(1000 * (time.perf_counter() - start))
    return times

"""Frame rate and latency of a model on this machine, next to the network that everyone knows."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from allaprima.core.checks import check_whole
from allaprima.core.contract import parse_size
from allaprima.core.errors import AllaprimaError
from allaprima.core.events import Advanced, Listener, Started, ignore
from allaprima.infer.stylizer import Stylizer
from allaprima.media.pictures import free_memory

JOHNSON = Path(__file__).parent / "reference" / "johnson.onnx"  # its weights are random: time doesn't depend on them
BLOCK, PAUSE = 5, 0.1  # runs of one model in a turn, and seconds of rest before it


@dataclass(frozen=True)
class Benchmark:
    """Rows of a measurement, and of what: names, provider, and CPU threads (0: all cores).

    A row: size, median and p95 in milliseconds, fps (of the median), against_median in milliseconds, and ratio, how many
    times as fast as the model compared with.
    """

    name: str
    against: str
    provider: str
    threads: int
    rows: list[dict]


def bench(
    model,
    sizes=("640x480", "1280x720"),
    runs=30,
    provider=None,
    threads=None,
    against=None,
    foreign=None,
    listener: Listener = ignore,
) -> Benchmark:
    """Time `model` at every size "WIDTHxHEIGHT", next to `against`, the johnson network if None.

    provider, threads, foreign: as of Stylizer; foreign is that of `model`.

    The two take turns, so that whatever else the machine does hits both. Raises AllaprimaError for bad input.
    """
    if not isinstance(sizes, list | tuple):
        raise AllaprimaError(f'sizes must be a list like ["640x480"], not {sizes!r}.')
    sizes = [parse_size(size) for size in sizes]
    check_whole(1, runs=runs)
    for width, height in sizes:
        if 6 * width * height > free_memory():  # bytes of a frame, and of the painted one
            raise AllaprimaError(
                f"A frame of {width}x{height} is more than the free memory holds: give a smaller size."
            )
    stylizer = Stylizer(model, provider, threads, foreign, one_size=True)
    other = Stylizer(against or JOHNSON, provider, threads, one_size=True)
    rows = []
    listener(Started("bench", len(sizes), "sizes"))
    for number, (width, height) in enumerate(sizes, 1):
        times, reference = measure([stylizer, other], width, height, runs)
        median, against_median = statistics.median(times), statistics.median(reference)
        rows.append(
            {
                "size": f"{width}x{height}",
                "median": median,
                "p95": float(np.percentile(times, 95)),
                "fps": 1000 / median,
                "against_median": against_median,
                "ratio": against_median / median,
            }
        )
        listener(Advanced("bench", number))
    return Benchmark(stylizer.name, other.name, stylizer.provider, stylizer.threads, rows)


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

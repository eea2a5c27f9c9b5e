"""`allaprima serve` under clients that ask without a pause, and its frames over a WebSocket next to `allaprima bench`.

    uv run --extra web python benchmarks/serve.py --seconds 60

Pictures a second, the 99th percentile, memory, refusals; clients and server share this machine. A client that is refused
waits as long as Retry-After says.
"""

import argparse
import io
import json
import statistics
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import psutil
from page import publish, table
from PIL import Image
from websockets.sync.client import connect

from allaprima.infer.bench import measure
from allaprima.infer.library import DEFAULT_STYLE
from allaprima.infer.stylizer import Stylizer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from services import server  # noqa: E402

WARM_UP = 10  # frames
PHOTO = ROOT / "train" / "photos" / "astronaut.jpg"


def client(address, photo, until, times, answers):
    """Ask until `until`; of each picture the seconds that it took, of each answer its status."""
    with httpx.Client(base_url=address, timeout=60) as session:
        while (began := time.perf_counter()) < until:
            answer = session.post("api/stylize", content=photo)
            answers[answer.status_code] += 1
            if answer.status_code == 200:
                times.append(time.perf_counter() - began)
            else:
                time.sleep(float(answer.headers.get("Retry-After", 0)))


def load(address, photo, clients, seconds):
    """(seconds of each picture, how often each status was answered) of so many clients at once."""
    times, answers, until = [], Counter(), time.perf_counter() + seconds
    arguments = (address, photo, until, times, answers)
    threads = [threading.Thread(target=client, args=arguments) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, answers


def frames(address, count, width=640, height=480):
    """Frames a second through the server engine, RGBA as a page sends them, two under way."""
    head = json.dumps({"id": 1, "style": DEFAULT_STYLE, "width": width, "height": height}).encode() + b"\n"
    message = head + np.random.default_rng(0).bytes(4 * width * height)
    how = {"max_size": None, "compression": None}
    with connect(address.replace("http", "ws") + "api/frames", **how) as socket:
        for number in range(count + WARM_UP):
            if number == WARM_UP:
                began = time.perf_counter()
            socket.send(message)
            if number:
                socket.recv()
    return count / (time.perf_counter() - began)


def engine(rounds, count):
    """Rows of the server engine and of `allaprima bench`, in turns: medians of their frames a second."""
    native, server_rates, stylizer = [], [], Stylizer(DEFAULT_STYLE, one_size=True)
    with server() as (address, _, _):
        frames(address, WARM_UP)
        for _ in range(rounds):
            server_rates.append(frames(address, count))
            (times,) = measure([stylizer], 640, 480, count)  # as `allaprima bench` does
            native.append(1000 / statistics.median(times))
    both = [statistics.median(rates) for rates in (native, server_rates)]
    return [f"{both[0]:.1f}", f"{both[1]:.1f}", f"{both[1] / both[0]:.2f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60, help="of load for each row")
    parser.add_argument("--queue", type=int, nargs="*", default=[8, 4], help="places, a row for each")
    parser.add_argument("--frames", type=int, default=100, help="of the server engine in each of five rounds; 0: none")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    file = io.BytesIO()
    Image.open(PHOTO).convert("RGB").resize((640, 480)).save(file, "JPEG", quality=90)
    if options.frames:
        row = engine(5, options.frames)
        head = ["`allaprima bench`, frames/s", "server engine, frames/s", "ratio"]
        publish("The server engine at 640x480 over loopback", table(head, [row]), options.write)
    rows = []
    for queue in options.queue:
        with server("--queue", str(queue)) as (address, _, process):
            memory = psutil.Process(process.pid).memory_info
            load(address, file.getvalue(), options.clients, 5)  # styles are opened, memory is taken
            before = memory().rss / 1e6
            times, answers = load(address, file.getvalue(), options.clients, options.seconds)
            after = memory().rss / 1e6
        others = sum(answers.values()) - answers[200] - answers[503]
        milliseconds = [f"{1000 * x:.0f} ms" for x in (statistics.median(times), np.percentile(times, 99))]
        rate, megabytes = f"{len(times) / options.seconds:.1f}", f"{before:.0f} to {after:.0f} MB"
        rows.append([queue, rate, *milliseconds, answers[503], others, megabytes])
    head = ["places", "pictures/s", "median", "99th percentile", "503s", "other errors", "memory"]
    about = (
        f"{options.clients} clients for {options.seconds:g} s, JPEGs of 640x480 in and out, clients on the same CPUs."
    )
    if rows:
        publish("The service", f"{about}\n\n{table(head, rows)}", options.write)


if __name__ == "__main__":
    main()

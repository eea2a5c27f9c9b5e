"""The page in Chromium: how soon it paints, and how fast, beside native ONNX Runtime on one thread.

    uv run --extra web python benchmarks/page_speed.py --write

A plain web host serves the exported page, so that it has one thread; the page of the studio is isolated, and has one for
each core. The camera is Chromium's own, a moving picture. All share this machine.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from page import publish, table

from allaprima.infer.bench import measure
from allaprima.infer.stylizer import Stylizer
from allaprima.serve.site import WEB, export_web
from browsers import CHROMIUM, MOVING, painted, plain_host
from studios import Studio

SIZE = 640, 480
KERNELS = WEB / "kernels"
ENGINE = """
async ([name, frames, width, height]) => {
    const { Engine } = await import("./engine.js");
    const { Remote } = await import("./remote.js");
    const style = (await (await fetch("styles.json")).json()).find(({ name }) => name === "wave");
    const engine = name === "server" ? new Remote(() => {}) : new Engine();
    const began = performance.now();
    await engine.load(name === "server" ? style.server : style.file, width, height);
    const times = [performance.now()];
    for (let k = 0; k <= frames; k++) {
        await engine.paint(new Uint8Array(4 * width * height).fill(120).buffer, width, height, { strength: 1 });
        times.push(performance.now());
    }
    return [times[1] - began, times.slice(1).map((time, k) => time - times[k]).slice(1)];
}
"""


def engine(page, name, frames, rounds):
    """Seconds from a new engine to its first picture, and milliseconds of a picture; medians."""
    found = [page.evaluate(ENGINE, [name, frames, *SIZE]) for _ in range(rounds)]
    first = statistics.median(first for first, _ in found) / 1000
    return first, statistics.median(time for _, times in found for time in times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=MOVING)
        began = time.perf_counter()
        studio = Studio(Path(folder) / "library")
        page = browser.new_page()
        page.goto(studio.address)
        page.click("#camera")
        painted(page, "frames/s")
        camera = time.perf_counter() - began
        page.goto(f"{studio.address}styles.json")  # nothing but the measured engine paints
        rows = []
        for name, text in (("browser", "the browser, a thread for each core"), ("server", "the server of the page")):
            rows.append([text, *engine(page, name, options.frames, options.rounds)])
        studio.end()
        with plain_host(export_web(["wave"], Path(folder) / "site")) as address:
            page.goto(f"{address}styles.json")
            rows.insert(0, ["the browser, one thread", *engine(page, "browser", options.frames, options.rounds)])
        browser.close()
    native = statistics.median(measure([Stylizer("wave", threads=1)], *SIZE, options.frames)[0])
    rows.append(["native ONNX Runtime, one thread", None, native])
    text = table(
        ["who paints 640x480", "first picture after", "a picture", "times native"],
        [[name, f"{first:.2f} s" if first else "", f"{ms:.1f} ms", f"{ms / native:.1f}"] for name, first, ms in rows],
    )
    loaded = sum(file.stat().st_size for file in [*KERNELS.glob("*.js"), KERNELS / "relaxed.wasm"]) / 1000
    text += f"\n\nFrom the command `allaprima studio` to the first painted frames of a camera: {camera:.1f} s. "
    text += f"The kernels and their JavaScript: {loaded:.0f} kB."
    publish("The page", text, options.write)


if __name__ == "__main__":
    main()

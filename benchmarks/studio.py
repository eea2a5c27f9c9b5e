"""What the open page costs a training of the studio: the same training without a page, and with its camera on, in turn.

python benchmarks/studio.py [--minutes 0.5] [--rounds 2] [--write]
"""

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from page import publish, table

from browsers import CHROMIUM, MOVING
from studios import Studio
from training import STYLE

COMMAND, PAGE = "no page", "the page, its camera on"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.5, help="of each training")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    rates = {COMMAND: [], PAGE: []}
    with tempfile.TemporaryDirectory() as library:
        studio = Studio(Path(library) / "library")
        try:
            for _ in range(options.rounds):
                rates[COMMAND].append(steps_a_second(studio, options.minutes))
                with watched(studio.address):
                    rates[PAGE].append(steps_a_second(studio, options.minutes))
        finally:
            studio.end()
    medians = {name: statistics.median(found) for name, found in rates.items()}
    rows = [[name, f"{found:.2f}", f"{100 * (medians[COMMAND] / found - 1):+.1f} %"] for name, found in medians.items()]
    publish("A training behind the page", table(["beside it", "steps a second", "time"], rows), options.write)


@contextmanager
def watched(address):
    """The page, on the view Train, with its camera painted by the network of the moment."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=MOVING)
        page = browser.new_page()
        page.goto(f"{address}#train")
        page.wait_for_selector("#train:not([hidden])")
        page.evaluate("document.getElementById('live-camera').click()")
        yield
        browser.close()


def steps_a_second(studio, minutes) -> float:
    """Of a training from its fifth step to its last, models of the moment included."""
    begun = studio.ask(f"studio/trainings?minutes={minutes}", STYLE.read_bytes())[1]
    seen = []
    while not seen or seen[-1][1] < begun["steps"]:
        training = next(each for each in studio.trainings().values() if each["id"] == begun["id"])
        if training["done"] >= 5:
            seen.append((time.perf_counter(), training["done"]))
        time.sleep(0.2)
    studio.ask(f"studio/trainings/{begun['id']}/stop", b"")
    studio.until(lambda found: not any(each["process"] for each in found.values()))
    return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])


if __name__ == "__main__":
    main()

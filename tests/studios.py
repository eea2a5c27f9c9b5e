"""A studio of its own for a test: `allaprima studio` on an empty library, asked over HTTP."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

from allaprima.serve import trainings

TESTS = Path(__file__).parent


def train_small() -> None:
    """From now on, the trainings of this process's studio are small."""
    trainings.WORKER = "small_worker"  # beside this file
    os.environ["PYTHONPATH"] = str(TESTS)


class Studio:
    """A running `allaprima studio`, whose trainings are small (small_worker.py). address: of its page."""

    def __init__(self, library, *options):
        command = [
            sys.executable,
            TESTS / "small_studio.py",
            "studio",
            "--port=0",
            "--no-browser",
            "--library",
            library,
        ]
        self.process = subprocess.Popen([*map(str, command), *options], stderr=subprocess.PIPE, text=True)
        said = self.process.stderr.readline()
        found = re.search(r"http://\S+/", said)
        if not found:
            self.process.wait(60)
        assert found, said
        self.address = found[0]

    def ask(self, path, body=None, method=None, **headers):
        """The status and the answer to a request: JSON where it is."""
        method = method or ("GET" if body is None else "POST")
        request = urllib.request.Request(self.address + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, kind, content = answer.status, answer.headers.get_content_type(), answer.read()
        except HTTPError as error:
            status, kind, content = error.code, error.headers.get_content_type(), error.read()
        return status, json.loads(content) if kind == "application/json" else content

    def trainings(self):
        return {each["name"]: each for each in self.ask("studio/trainings")[1]["trainings"]}

    def until(self, holds, seconds=400):
        """Wait until `holds(trainings by name)`; returns them."""
        deadline = time.time() + seconds
        while not holds(found := self.trainings()):
            assert time.time() < deadline, found
            time.sleep(0.2)
        return found

    def end(self, kill=False):
        """End it as Ctrl-C does, or by force."""
        self.process.kill() if kill else self.process.terminate()
        _, said = self.process.communicate(timeout=60)
        assert "Traceback" not in (said or ""), said

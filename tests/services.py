"""A running `allaprima serve` for tests."""

import re
import subprocess
import sys
from contextlib import contextmanager

import psutil


@contextmanager
def server(*options, begin=None):
    """`allaprima serve --port 0 ...`: (its address on loopback, the token that it printed or "", its process).

    begin: what the process does before.
    """
    program = [sys.executable, "-m", "allaprima", "serve", "--port", "0", *options]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, preexec_fn=begin)
    said = process.stderr.readline()
    address, token = re.search(r"http://\S+/", said), re.search(r"Bearer (\S+)", said)
    assert address, said
    try:
        yield address[0].replace("0.0.0.0", "127.0.0.1"), token[1] if token else "", process
    finally:
        process.terminate()
        assert process.wait(20) is not None
        rest = process.stderr.read()
        process.stderr.close()
        assert "Traceback" not in rest, rest


def processes_apart(process):
    """The processes in which this one, a server, has pictures read, as those of psutil."""
    found = psutil.Process(process.pid).children()
    return [child for child in found if "spawn_main" in " ".join(child.cmdline())]

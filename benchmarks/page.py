"""docs/benchmarks.md: every benchmark prints its table and, with --write, puts it there with machine, versions, date."""

import datetime
import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def table(head, rows) -> str:
    """A Markdown table; numbers are to be strings already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """Processor, threads, GPU if any, and the versions that matter, in a line."""
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    parts = [f"{os.cpu_count()} CPU threads of {name[1] if name else platform.processor() or platform.machine()}"]
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        parts.append(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")
        parts.append(f"torch {torch.__version__.split('+')[0]}")
    parts += [f"ONNX Runtime {version('onnxruntime')}", f"Python {platform.python_version()}"]
    return ", ".join(parts)


def publish(title, text, write):
    """Print a section; with `write`, put it into docs/benchmarks.md, in place of the one with the same title."""
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]).replace(" --write", "")
    when = f"{datetime.date.today()}, {machine()}."
    section = f"## {title}\n\n`{command}`\n\n{text}\n\n{when}\n"
    print(section)
    if write:
        page = PAGE.read_text()
        old = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", page, re.M | re.S)
        page = page.replace(old[0], section + "\n") if old else page.rstrip() + "\n\n" + section
        PAGE.write_text(page.rstrip() + "\n")

"""The command line: signatures, help texts, and what is drawn on the terminal."""

import os


def share_processor() -> None:
    """Before torch is imported: let its threads sleep while they wait, or what they do takes several times as long beside any
    other program; but not at once, or it takes half as long again beside none. GNU's OpenMP can wait so: some microseconds
    (docs/networks.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

"""Build what browsers run, serve/web/kernels/*.wasm, from kernels.c: with and without relaxed SIMD, for one thread and more.

    uv run --with ziglang==0.17.1 python serve/kernels/build.py

The package ziglang has a clang for WebAssembly. An argument is another folder for the files.
"""

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "kernels.c"
BUILT = Path(__file__).parent.parent / "web" / "kernels"
PROCESSORS = {"simd": "generic+simd128", "relaxed": "generic+simd128+relaxed_simd"}
SHARED = {"": "", ".shared": "-matomics -mbulk-memory -Wl,--shared-memory"}
COMPILE = (
    f"{sys.executable} -m ziglang cc -target wasm32-freestanding -O3 -s -nostdlib -Wl,--no-entry -Wl,--export-dynamic"
)
MEMORY = f"-Wl,--import-memory -Wl,--max-memory={2**32 - 2**16} -Wl,-z,stack-size=65536"


def build(folder: Path = BUILT):
    for name, processor in PROCESSORS.items():
        for ending, options in SHARED.items():
            command = f"{COMPILE} {MEMORY} -mcpu={processor} {options}".split()
            file = folder / f"{name}{ending}.wasm"
            subprocess.run([*command, "-o", file, SOURCE], check=True)
            file.chmod(0o644)


if __name__ == "__main__":
    build(*map(Path, sys.argv[1:]))

"""The bundled styles in plain ONNX Runtime, its JavaScript builds too: the pictures are Stylizer's, and nothing is said.

Nor by the programs of docs/deploy.md.
"""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from allaprima.infer.library import BUNDLED
from allaprima.infer.stylizer import Stylizer
from conftest import PHOTOS, ROOT

WEB = ROOT / "tests" / "web"
STYLES = sorted(BUNDLED.glob("*.onnx"))
LIBRARIES = ["onnxruntime-node", "onnxruntime-web"]  # native code, WebAssembly


@pytest.fixture(scope="session")
def packages():
    """The packages of tests/web/package-lock.json, installed beside it when they are not there."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    installed = WEB / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (WEB / "package-lock.json").stat().st_mtime:
        environment = os.environ | {"ONNXRUNTIME_NODE_INSTALL": "skip"}  # its GPU libraries are from elsewhere
        command = [shutil.which("npm"), "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=WEB, env=environment, check=True, timeout=300)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_runtime_paints_what_python_paints(packages, library, tmp_path):
    photo = np.asarray(Image.open(PHOTOS / "chelsea.jpg").convert("RGB").resize((161, 107)))
    (tmp_path / "photo").write_bytes(photo.tobytes())
    size = [str(side) for side in photo.shape[:2]]
    command = ["node", WEB / "stylize.cjs", library, tmp_path / "photo", *size, tmp_path, *STYLES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for style in STYLES:
        stylizer = Stylizer(style)
        for strength in (0, 0.5, 1):
            painted = np.frombuffer((tmp_path / f"{style.stem}-{strength}").read_bytes(), np.uint8)
            wanted = stylizer(photo, strength=strength)
            assert np.abs(painted.reshape(wanted.shape).astype(int) - wanted).max() <= 1, (style.stem, strength)


def test_python_opens_every_style_in_silence():
    """With ONNX Runtime's own settings, not those of Stylizer, which ask it for silence."""
    program = "import sys, onnxruntime as ort\nfor path in sys.argv[1:]: ort.InferenceSession(path)"
    models = [*STYLES, BUNDLED.parent / "reference" / "johnson.onnx"]
    done = subprocess.run([sys.executable, "-c", program, *models], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("language", ["python", "js"])
def test_the_programs_of_the_docs_paint_what_the_stylizer_paints(packages, language, tmp_path, photo):
    (program,) = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / "deploy.md").read_text(), re.M | re.S)
    assert "allaprima" not in program
    shutil.copyfile(BUNDLED / "starry_night.onnx", tmp_path / "starry.onnx")
    Image.fromarray(photo).save(tmp_path / "photo.ppm")
    command = [sys.executable, "-c"] if language == "python" else ["node", "-e"]
    where = {"cwd": tmp_path, "env": os.environ | {"NODE_PATH": str(WEB / "node_modules")}}
    done = subprocess.run([*command, program], capture_output=True, text=True, timeout=120, **where)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    painted = np.asarray(Image.open(tmp_path / "painted.ppm")).astype(int)
    assert np.abs(painted - Stylizer("starry_night")(photo)).max() <= 1

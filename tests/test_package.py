"""What is handed out: the wheel and the source archive, built once and used the way others use them."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import PACKAGE, PHOTOS, ROOT

BASE_ONLY = ("torch", "torchvision", "onnx", "safetensors", "matplotlib")  # packages of the extra `train`


def run(*command, **options):
    """Run a command and return what it printed; a failure shows what it said on stderr."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, source archive); the wheel is built from the archive, so the archive can be built."""
    folder = tmp_path_factory.mktemp("dist")
    run("uv", "build", "-q", "-o", folder, ROOT)
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    for file in (wheel, archive):
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
    return wheel, archive


@pytest.fixture(scope="module")
def python(built, tmp_path_factory):
    """The Python of an environment with the wheel, the base dependencies as uv.lock has them, and nothing else."""
    environment = tmp_path_factory.mktemp("environment") / "env"
    variables = os.environ | {"UV_PROJECT_ENVIRONMENT": str(environment)}
    base = ("--locked", "--no-default-groups", "--no-install-project", "--python", sys.executable)
    run("uv", "sync", "-q", *base, cwd=ROOT, env=variables)
    python = next(file for file in environment.glob("*/python*") if file.is_file())
    run("uv", "pip", "install", "-q", "--offline", "--no-deps", "--python", python, built[0])
    return python


@pytest.mark.parametrize("place", ["checkout", "elsewhere"])
def test_the_installed_package_runs_in_the_checkout_and_elsewhere(python, place, tmp_path):
    folder = ROOT if place == "checkout" else tmp_path
    imported = run(
        python, "-c", "from allaprima import Stylizer; import allaprima; print(allaprima.__file__)", cwd=folder
    )
    assert Path(imported).is_relative_to(python.parent.parent)  # the installed one, not the checkout's
    assert run(python, "-m", "allaprima", "--version", cwd=folder).split()[-1][0].isdigit()

    run(python, "-m", "allaprima", "stylize", PHOTOS / "chelsea.jpg", "-o", tmp_path / "painted.png", cwd=folder)
    photo, painted = (np.asarray(Image.open(file), int) for file in (PHOTOS / "chelsea.jpg", tmp_path / "painted.png"))
    assert painted.shape == photo.shape and np.abs(painted - photo).mean() > 20


def test_the_base_install_has_what_the_wheel_asks_for_and_no_torch(python):
    run("uv", "pip", "check", "--python", python)
    found = f"from importlib.util import find_spec; print([name for name in {BASE_ONLY} if find_spec(name)])"
    assert run(python, "-c", found) == "[]"


def test_wheel_and_archive_hold_every_file_of_the_house_once_and_no_link(built):
    house = {
        str((Path(folder) / name).relative_to(PACKAGE.parent))
        for folder, _, names in os.walk(PACKAGE, followlinks=True)
        for name in names
        if "__pycache__" not in folder
    }
    with zipfile.ZipFile(built[0]) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(house)

    with tarfile.open(built[1]) as archive:
        members = archive.getmembers()
        assert all(member.isfile() or member.isdir() for member in members)
        files = {member.name.split("/", 1)[1]: member for member in members if member.isfile()}
        assert {f"src/{name}" for name in house} <= set(files)
        large = [name for name in files if files[name].size > 10_000 and ".egg-info/" not in name]
        copies = Counter(hashlib.sha256(archive.extractfile(files[name]).read()).hexdigest() for name in large)
    assert max(copies.values()) == 1
    assert {"LICENSE", "README.md", "CHANGELOG.md", "uv.lock", "examples/styles/starry_night.jpg"} <= set(files)


def test_the_tests_can_be_run_from_the_source_archive(built, tmp_path):
    """All are collected, and those of the styles that come along are run (the whole suite passes too, in minutes)."""
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    inside = {"cwd": folder, "env": os.environ | {"PYTHONPATH": str(folder / "src")}}
    assert Path(run(sys.executable, "-c", "import allaprima; print(allaprima.__file__)", **inside)).is_relative_to(
        folder
    )
    pytest_there = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
    collected = run(*pytest_there, "--collect-only", "tests", **inside)
    assert all(f"tests/{file.name}" in collected for file in (ROOT / "tests").glob("test_*.py"))
    assert " passed" in run(*pytest_there, "tests/test_library.py", "-k", "bundled", **inside)
    shutil.rmtree(folder)  # 40 MB

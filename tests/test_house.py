"""The house as its tools see it: editors, the type checker, and what CI runs."""

import json
import subprocess
import sys

import jedi
import pytest

import allaprima
from conftest import PACKAGE, ROOT

LONGEST = 400  # lines of a file
KINDS = {".py", ".md", ".toml", ".html", ".js", ".cjs", ".css"}


@pytest.fixture
def editor(monkeypatch):
    """What an editor knows in the checkout: `editor(code)` is a jedi script in the project."""
    # its usual environment leaves a process behind
    how = {"project": jedi.Project(ROOT), "environment": jedi.InterpreterEnvironment()}
    return lambda code: jedi.Script(code, path=ROOT / "unsaved.py", **how)


def test_an_editor_completes_the_public_names(editor):
    offered = {found.name for found in editor("from allaprima import ").complete()}
    assert set(allaprima.__all__) - {"__version__"} <= offered


def test_an_editor_shows_signatures_and_finds_definitions(editor):
    (signature,) = editor("from allaprima import Stylizer\nStylizer(").get_signatures()
    assert [parameter.name for parameter in signature.params][:2] == ["model", "provider"]
    (module,) = editor("import allaprima.infer.stylizer").goto(1, 25)
    assert module.full_name == "allaprima.infer.stylizer" and module.module_path.samefile(
        PACKAGE / "infer" / "stylizer.py"
    )


def test_a_type_checker_resolves_the_package(tmp_path):
    """`stylize` is a function with a known type, not Any; and a wrong call is an error."""
    code = tmp_path / "program.py"
    code.write_text(
        "import allaprima.infer.stylizer\n"
        "from allaprima import stylize\n"
        "reveal_type(allaprima.infer.stylizer.Stylizer)\n"
        "stylize('a.jpg', colour=1)\n"
    )
    command = [sys.executable, "-m", "pyright", "--project", ROOT, "--outputjson", code]
    said = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)["generalDiagnostics"]
    assert [entry["severity"] for entry in said] == ["information", "error"]
    assert "type[Stylizer]" in said[0]["message"] and 'No parameter named "colour"' in said[1]["message"]


def test_ci_runs_the_tests_as_the_readme_says():
    command = (ROOT / "README.md").read_text().split("The tests: `")[1].split("`")[0]
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == command


def test_no_file_is_longer_than_it_reads_well():
    house = [folder.resolve() for folder in PACKAGE.glob("*/")]  # a link is not walked through
    places = [PACKAGE, *house, *(ROOT / name for name in ("tests", "benchmarks", "docs", ".ci"))]
    files = [*ROOT.glob("*.*"), *(file for place in places for file in place.rglob("*"))]
    own = [f for f in files if f.suffix in KINDS and not {"node_modules", "ort"} & set(f.parts)]
    assert len(own) > 100
    assert {file.name: lines for file in own if (lines := len(file.read_text().splitlines())) > LONGEST} == {}

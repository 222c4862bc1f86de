"""Every notebook runs from top to bottom on the demo sample, and is the same as the script beside it."""

import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.py"))

# What the cell tagged `parameters` is replaced with here; what is not named runs as a reader runs it.
SMALL = {
    "02_rmm_by_hand": 'GROUPS = ("Zjets", "ttbar", "diboson", "GG_ttn1")',
    "05_at_a_facility": 'GROUPS = ("diboson", "SUSYC1N2", "data")\nCHUNKSIZE = 10_000\nWORKERS = 1',
}

# Roots and drives of somebody's machine, also where a file: address hides them.
OF_ONE_MACHINE = re.compile(
    r"(?<![\w.:/)\]}])(/(home|root|tmp|work|mnt|Users|var|opt|usr|eos|afs)/|[A-Z]:\\)|file://"
)


@pytest.fixture(scope="module")
def jupytext(require: Callable[[object, str], None]) -> Any:
    """The package, where all that runs notebooks is installed."""
    packages = ("jupytext", "nbclient", "ipykernel")
    require(all(find_spec(name) for name in packages), "the extra [notebooks] is not installed")
    return import_module("jupytext")


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_the_script_without_outputs(jupytext: Any, script: Path) -> None:
    one, other = jupytext.read(script), jupytext.read(script.with_suffix(".ipynb"))
    contents = [
        [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in book.cells]
        for book in (one, other)
    ]
    assert contents[0] == contents[1], f"bring them together with: jupytext --sync {script}"
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in other.cells)
    assert other.metadata["jupytext"]["formats"] == "ipynb,py:percent"


def test_there_are_five_that_build_on_one_another() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]
    assert sorted(path.stem for path in NOTEBOOKS[0].parent.glob("*.ipynb")) == [p.stem for p in NOTEBOOKS]


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_of_no_machine(script: Path) -> None:
    for path in (script, script.with_suffix(".ipynb")):
        found = OF_ONE_MACHINE.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path.name} holds {found[0] if found else ''}"


@pytest.mark.parametrize("path", ["/home/anna/x", "open('/tmp/x')", "file:///x", "C:\\Users"])
def test_paths_of_a_machine_are_seen(path: str) -> None:
    assert OF_ONE_MACHINE.search(path)
    assert not OF_ONE_MACHINE.search("https://arxiv.org/abs/1007.1727 and output/demo/tmp/x")


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_story_checks_what_it_claims(jupytext: Any, script: Path) -> None:
    """A statement that is only printed can become wrong; an assertion fails here when it does."""
    code = [cell.source for cell in jupytext.read(script).cells if cell.cell_type == "code"]
    checks = re.findall(r"^ *(?:assert |np\.testing\.assert_)", "\n".join(code), re.MULTILINE)
    assert len(checks) >= 3
    if script.stem[:2] != "05":
        assert "## Exercises" in script.read_text(encoding="utf-8")


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_and_draws(
    jupytext: Any, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = jupytext.read(script)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = SMALL.get(script.stem, cell.source)
    # Anywhere but beside the packages: a user has them installed.
    import_module("nbclient").execute(notebook, cwd=str(tmp_path), timeout=300, kernel_name="python3")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    said = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert "Warning" not in said, said

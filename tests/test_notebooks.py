"""Every notebook runs from top to bottom on a part of the demo sample, and is the same as the script beside it."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.py"))

# What the cell tagged `parameters` is replaced with here.
SMALL = {"05_at_a_facility": 'GROUPS = ("diboson", "SUSYC1N2", "data")\nCHUNKSIZE = 10_000\nWORKERS = 1'}


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


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_and_draws(
    jupytext: Any, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = jupytext.read(script)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = SMALL[script.stem]
    # Anywhere but beside the packages: a user has them installed.
    import_module("nbclient").execute(notebook, cwd=str(tmp_path), timeout=300, kernel_name="python3")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    said = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert "Warning" not in said, said

"""The TAB key: what shells are offered while a line of `run-analysis` is typed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from run_analysis import main

pytestmark = pytest.mark.neutral


def _offered(*words: str) -> list[str]:
    """What stands to choose from for the last word."""
    *before, incomplete = words
    found = ShellComplete(main, {}, "run-analysis", "_RUN_ANALYSIS_COMPLETE").get_completions(
        before, incomplete
    )
    return [item.value for item in found]


def test_verbs_come_in_the_order_of_the_work() -> None:
    assert _offered("")[:4] == ["fileset", "check", "select", "compare"]
    assert _offered("tr") == ["train"]
    assert _offered("config", "") == ["show", "init", "schema"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("select", "--reg"), ["--region"]),
        (("select", "--region", ""), ["2L", "3L"]),
        (("train", "--preset", "hardn"), ["hardness"]),
        (("train", "--features", "rmm"), ["rmm", "rmm-energies"]),
        (("run", "--site", "sl"), ["slurm"]),
        (("run", "--fileset", "atlas-"), ["atlas-2020", "atlas-2025"]),
        (("run", "--fileset", "demo", "--group", "tt"), ["ttbar"]),
        (("simulate", "--process", "ttbar"), ["ttbar_lep", "ttbar_ljets"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
    ],
    ids=" ".join,
)
def test_names(words: tuple[str, ...], offered: list[str]) -> None:
    assert set(offered) <= set(_offered(*words))
    assert all(name.startswith(words[-1]) for name in _offered(*words))


def test_names_of_ones_own_configuration_are_offered_too(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(
        "define: {my-region: {n_leptons: 2, skims: [2lep]}}\nexecution: {sites: {my-site: {like: slurm}}}\n",
        encoding="utf-8",
    )
    assert "my-region" in _offered("select", "--config", str(path), "--region", "")
    assert _offered("select", "--config", str(path), "--site", "my") == ["my-site"]


def test_a_broken_configuration_stops_no_completion(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("define: [", encoding="utf-8")
    assert _offered("select", "--config", str(path), "--region", "") == ["2L", "3L"]
    assert _offered("select", "--config", str(tmp_path / "none.yaml"), "--region", "") == ["2L", "3L"]


def test_configuration_files_are_offered_before_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("my.yaml", "my.txt", "other.yml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert _offered("select", "--config", "") == ["my.yaml", "other.yml"]
    assert _offered("select", "--config", f"{tmp_path}/m") == [f"{tmp_path}/my.yaml"]


def test_models_that_were_trained_are_offered(tmp_path: Path) -> None:
    for name in ("default-table", ".default-table.checkpoint"):
        (tmp_path / "models" / "2L" / name).mkdir(parents=True)
        (tmp_path / "models" / "2L" / name / "card.json").touch()
    assert _offered("score", "--output", str(tmp_path), "--model", "") == ["default-table"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_of_the_installed_command(command_line: Any, shell: str) -> None:
    script = command_line("completion", shell).output
    assert f"_RUN_ANALYSIS_COMPLETE={shell}_complete" in script
    assert "run-analysis" in script


def test_bash_completes_a_line(command_line: Any, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    command = tmp_path / "run-analysis"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from run_analysis import main\nmain(prog_name='run-analysis')\n",
        encoding="utf-8",
    )
    command.chmod(0o755)
    typed = (
        f"{command_line('completion', 'bash').output}\n"
        "COMP_WORDS=(run-analysis train --preset hardn); COMP_CWORD=3\n"
        "_run_analysis_completion run-analysis\n"
        "printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    done = subprocess.run(
        [bash, "--norc"],
        input=typed,
        text=True,
        capture_output=True,
        check=True,
        timeout=120,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert "hardness" in done.stdout.split()

"""A wrong word is answered with the right one, in one sentence and with exit status 2."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.neutral


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (("selct",), "select"),
        (("config", "shw"), "show"),
        (("select", "--regoin", "2L"), "--region"),
        (("config", "show", "--region", "2l"), "2L"),
        (("train", "--preset", "hardnes"), "hardness"),
        (("train", "--preset", "report"), "report-minmax"),
        (("train", "--features", "tabel"), "table"),
        (("train", "--features", "RMM"), "rmm"),
        (("robustness", "--test", "nose"), "noise"),
        (("tune", "--space", "wid"), "wide"),
        (("check", "--executor", "dusk"), "dask"),
        (("config", "show", "--site", "slrm"), "slurm"),
        (("simulate", "--process", "Zeee"), "Zee"),
        (("completion", "bsh"), "bash"),
    ],
    ids=" ".join,
)
def test_of_flags(command_line: Any, words: tuple[str, ...], right: str, tmp_path: Path) -> None:
    done = command_line(*words)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f"did you mean {right}?")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("trainig: {}", "training"),
        ("report: {blnd: true}", "blind"),
        ("training: {preset: hardnes}", "hardness"),
        ("features: tabel", "table"),
        ("studies: [significnce]", "significance"),
        ("regions: [4L]", "3L"),
        ("define: {mine: {n_leptons: 2, skims: [2lep], n_bjets_max: 0}}", "n_b_jets_max"),
    ],
)
def test_of_a_configuration(command_line: Any, text: str, right: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    done = command_line("config", "show", "--config", path)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"did you mean {right}?")


def test_where_nothing_is_near_all_that_there_is_is_named(command_line: Any) -> None:
    done = command_line("brew-coffee")
    assert "verbs are fileset, check, select" in done.stderr
    assert "did you mean" not in done.stderr


def test_a_value_of_the_wrong_kind_is_one_sentence_too(command_line: Any) -> None:
    done = command_line("check", "--chunksize", "ten")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: invalid value for '--chunksize': 'ten' is not a valid integer\n",
    )


def test_quiet_and_debug_contradict_each_other(command_line: Any) -> None:
    done = command_line("check", "--quiet", "--debug")
    assert done.exit_code == 2
    assert "give one of --quiet, --verbose and --debug" in done.stderr

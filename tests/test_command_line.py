"""What a user meets at the terminal: help, wrong input in one sentence, and the exit status that scripts rely on."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import uproot
from click.testing import CliRunner, Result

from models.bundle import checksum_of_json
from processors.files import checksum, write_json
from report.analysis import Analysis
from report.command_line import Verbs, taking_flags
from report.terminal import show_power

REPOSITORY = Path(__file__).parents[1]


def _failed(done: subprocess.CompletedProcess[str] | Result, status: int, *words: str) -> None:
    """One clear sentence, the right status, no traceback."""
    found = done.exit_code if isinstance(done, Result) else done.returncode
    assert found == status, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.lower().startswith("error:")]
    assert len(errors) == 1, done.stderr
    for word in words:
        assert word in errors[0]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A directory in the release's layout; tests put files into it."""
    (tmp_path / "2lep" / "MC").mkdir(parents=True)
    return tmp_path / "2lep"


def test_help_imports_nothing_heavy() -> None:
    heavy = ("tensorflow", "keras", "coffea", "awkward", "matplotlib", "numba", "dask")
    probe = (
        "import sys, run_analysis; from click.testing import CliRunner, Result;"
        "CliRunner().invoke(run_analysis.main, ['--help']);"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "[]"


def test_missing_directory(run_analysis: Any, tmp_path: Path) -> None:
    _failed(run_analysis("select", "--fileset", tmp_path / "nowhere", "--output", tmp_path), 2, "nowhere")


def test_unknown_region(command_line: Any, tmp_path: Path) -> None:
    _failed(command_line("run", "--region", "2l", "--output", tmp_path), 2, "'2l'", "2L")


def test_unknown_configuration_key(command_line: Any, tmp_path: Path) -> None:
    configuration = tmp_path / "mine.yaml"
    configuration.write_text("execution:\n  wokers: 2\n", encoding="utf-8")
    done = command_line("run", "--config", configuration, "--output", tmp_path)
    _failed(done, 2, "mine.yaml", "line 2", "'execution.wokers'", "did you mean workers?")


def test_bad_value(command_line: Any, tmp_path: Path) -> None:
    configuration = tmp_path / "mine.yaml"
    configuration.write_text("execution:\n  chunksize: none\n", encoding="utf-8")
    _failed(command_line("run", "--config", configuration), 2, "line 2", "execution.chunksize", "integer")


def test_file_without_tree(run_analysis: Any, sample: Path, tmp_path: Path) -> None:
    path = sample / "MC" / "mc_410000.ttbar_lep.2lep.root"
    with uproot.recreate(path) as file:
        file.mktree("other", {"x": np.float32}).extend({"x": np.arange(3, dtype=np.float32)})
    done = run_analysis("select", "--fileset", sample, "--region", "2L", "--output", tmp_path / "out")
    _failed(done, 1, path.name, "mini")


@pytest.mark.shared
def test_truncated_file(run_analysis: Any, real_files: Path, sample: Path, tmp_path: Path) -> None:
    name = "mc_410000.ttbar_lep.4lep.root"
    whole = (real_files / "MC" / name).read_bytes()
    path = sample / "MC" / name
    path.write_bytes(whole[: len(whole) // 2])
    done = run_analysis("select", "--fileset", sample, "--region", "2L", "--output", tmp_path / "out")
    _failed(done, 1, name, "truncated")


def test_stage_without_the_one_before(run_analysis: Any, tmp_path: Path) -> None:
    _failed(run_analysis("train", "--region", "2L", "--output", tmp_path), 2, "select")


def _bundle(directory: Path, **changed: Any) -> Path:
    """What looks like a whole bundle until its network is loaded."""
    directory.mkdir(parents=True)
    files = ("model.keras", "scaler.json", "features.json", "history.json")
    for name in files:
        (directory / name).write_text("{}", encoding="utf-8")
    card = {"format": 1, "name": directory.name, "region": "2L", "features": ["mll"], "seeds": {"split": 1}}
    card |= {"checksums": {name: checksum(directory / name) for name in files}, **changed}
    write_json(directory / "card.json", {**card, "checksum": checksum_of_json(card)})
    return directory


def test_a_bundle_that_is_not_what_it_says_scores_nothing(run_analysis: Any, tmp_path: Path) -> None:
    model = _bundle(tmp_path / "models" / "2L" / "mine")
    shutil.copytree(model, model.with_name("copied"))
    _bundle(model.with_name("elsewhere"), region="3L")
    options = ("--region", "2L", "--output", tmp_path)
    _failed(
        run_analysis("score", "--model", "copied", *options), 2, "is a copy of the model mine of region 2L"
    )
    _failed(run_analysis("evaluate", "--model", "elsewhere", *options), 2, "model elsewhere of region 3L")
    (model / "model.keras").write_text("broken", encoding="utf-8")
    _failed(
        run_analysis("score", "--bundle", model, *options), 1, "model.keras of model bundle", "was changed"
    )
    assert not (tmp_path / "check.json").exists(), "no file was opened"


def test_scores_of_another_model_are_not_evaluated(run_analysis: Any, tmp_path: Path) -> None:
    _bundle(tmp_path / "models" / "2L" / "mine")
    scores = {"format": 1, "model": "mine", "model_checksum": "of another", "datasets": {}, "shards": []}
    write_json(tmp_path / "scores" / "2L" / "mine" / "manifest.json", scores)
    done = run_analysis("evaluate", "--model", "mine", "--region", "2L", "--output", tmp_path)
    _failed(done, 2, "of another model than mine is now: run score again")


def test_the_power_of_a_collapsed_model_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {"value": None, "error": None, "n_eff_background": 2.0, "unsupported": True}
    area = {"auc": 0.7, "auc_error": 0.01, "eps_s": dict.fromkeys(("1e-1", "1e-2", "1e-3", "1e-4"), nothing)}
    result: dict[str, Any] = {
        "model": {"name": "mine", "card": {"preset": "default", "collapsed": True}},
        "signals": {"1.susy": {"process": "susy", "scores": {"score": area, "met_et": area}}},
    }
    background = {"kind": "background", "sample": "demo-simulation", "sumw": 1.0, "scale": 1.0}
    show_power("2L", result, {"2.Zee": background})
    assert "model mine has collapsed: it is no better" in capsys.readouterr().out
    result["model"]["card"]["collapsed"] = False
    show_power("2L", result, {"2.Zee": background})
    assert "collapsed" not in capsys.readouterr().out


def test_an_interrupt_is_one_line_and_the_status_of_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("report.command_line.set_up_logging", lambda _: None)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    verbs = Verbs("run-analysis", commands=[click.command("wait")(taking_flags(interrupted, writes=False))])
    done = CliRunner().invoke(verbs, ["wait"])
    assert (done.exit_code, done.output.strip()) == (130, "stopped: run the same command again, it goes on")


def test_debug_shows_the_traceback(run_analysis: Any, tmp_path: Path) -> None:
    done = run_analysis("select", "--fileset", tmp_path / "nowhere", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_zero_is_a_value(command_line: Any) -> None:
    assert "\nseed: 0  # <- the command line\n" in command_line("config", "show", "--seed", 0).stdout
    _failed(command_line("config", "show", "--workers", 0), 2, "execution.workers = 0")


def test_a_region_named_twice_or_like_a_path_is_refused(command_line: Any) -> None:
    _failed(command_line("config", "show", "--region", "2L", "--region", "2L"), 2, "named twice")
    _failed(command_line("config", "show", "--region", "../2L"), 2, "'../2L'")


def test_the_readmes_region_of_ones_own_selects_events(run_analysis: Any, tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", readme, flags=re.DOTALL)
    configuration = tmp_path / "mine.yaml"
    configuration.write_text(example, encoding="utf-8")
    configuration.with_name("my_columns.py").write_text(
        "def transverse_mass(events):\n    return events.lepton['pt'][:, 0] + events.met_pt\n",
        encoding="utf-8",
    )
    done = run_analysis(
        "select", "--config", configuration, "--region", "three-leptons-no-b", "--group", "diboson",
        "--chunksize", 1000, "--output", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    select = json.loads((tmp_path / "out" / "select.json").read_text(encoding="utf-8"))
    region = select["regions"]["three-leptons-no-b"]
    assert region["cuts"] == ["all", "3 good leptons", "1 OSSF pairs", "at most 0 b-jets"]
    assert sum(book["selected"] for book in region["datasets"].values()) > 1000
    assert select["ledger"]["done"] > len(region["datasets"]), "chunks of 1000 events cut the files"


def test_nothing_is_left_out_in_continuous_integration(require: Any) -> None:
    for package in ("ROOT", "pythia8mc", "fastjet", "XRootD", "pyhf"):
        require(importlib.util.find_spec(package) is not None, f"{package} is not installed")


def test_a_preset_brings_its_features_along(run_analysis: Any) -> None:

    assert (
        Analysis.model_validate({"training": {"preset": "thesis-ae-big"}}).model_name == "thesis-ae-big-rmm"
    )
    chosen = Analysis.model_validate({"features": "table", "training": {"preset": "thesis-ae-big"}})
    assert chosen.model_name == "thesis-ae-big-table"

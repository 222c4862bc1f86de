"""What `docs/extending.md` shows works: its files and commands, as they stand there, on a few files of the demo."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from fileset.catalog import DEMO

REPOSITORY = Path(__file__).parents[2]

# Pseudo-data, two backgrounds and two signals: enough of each to select, train and score.
FILES = (
    "3lep/Data/data_A.3lep.root",
    "3lep/MC/mc_363490.llll.3lep.root",
    "3lep/MC/mc_363492.llvv.3lep.root",
    "3lep/MC/mc_307434.RS_G_ZZ_llll_c10_m0500.3lep.root",
    "3lep/MC/mc_900401.WR_lN_2000_1000.3lep.root",
    "2lep/Data/data_A.2lep.root",
    "2lep/MC/mc_345324.ggH125_WW2lep.2lep.root",
    "2lep/MC/mc_363491.lllv.2lep.root",
)

pytestmark = pytest.mark.xdist_group("guides")


class Block(NamedTuple):
    """A block of code, and the name of the file that it is, where it is one."""

    file: str
    language: str
    code: str


def blocks_of(section: str) -> list[Block]:
    """The blocks of the section with a name, in order."""
    text = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    part = text.split(f"({section})=\n", 1)[1].split("\n(a-", 1)[0]
    return [
        Block(*found)
        for found in re.findall(
            r"(?:^`([\w./-]+)`:\n\n)?^```(\w+)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL
        )
    ]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging_as_before: None) -> Iterator[Path]:
    """A directory that looks like the repository with a smaller demo; what is imported from it is forgotten."""
    demo = tmp_path / "fileset" / "demo"
    for file in (*FILES, "catalog.yaml"):
        (demo / file).parent.mkdir(parents=True, exist_ok=True)
        (demo / file).symlink_to(DEMO / file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fileset.resolve.DEMO", demo)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def follow(section: str) -> None:
    """Writes the files of a section and gives its commands."""
    for block in blocks_of(section):
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.code, encoding="utf-8")
    for block in blocks_of(section):
        for line in block.code.splitlines() if block.language == "sh" else ():
            _give(line)


def _give(command: str) -> None:
    """One command line; the analysis runs in this process, which has imported what it needs."""
    import run_analysis  # noqa: PLC0415 - only here

    words = shlex.split(command, comments=True)
    if words[:2] == ["python", "run_analysis.py"]:
        run_analysis.main(words[2:], standalone_mode=False)
    else:
        subprocess.run(["bash", "-euc", command], check=True, timeout=60)


def _read(path: str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _events(directory: str) -> pd.DataFrame:
    return pd.concat(map(pd.read_parquet, sorted(Path(directory).glob("*/*.parquet"))), ignore_index=True)


def test_a_sample_is_normalised_by_the_catalogue_beside_it(place: Path) -> None:
    follow("a-sample")
    book = _read("output/my-sample/select.json")["regions"]["3L"]["datasets"]["990001.MyModel_2000.3lep"]
    assert (book["kind"], book["group"]) == ("signal", "MyModel")
    # sigma L / sum of weights, and all 1222 events of the file have weight one but for scale factors.
    assert book["cutflow"]["all"][1] == pytest.approx(0.1903886 * 100 / 7000 * 1222, rel=0.2)
    assert "my-signal" in Path("output/my-sample/check.json").read_text(encoding="utf-8")


def test_a_region_selects_what_its_cuts_say(place: Path) -> None:
    follow("a-region")
    three, two = (_events(f"output/my-region/shards/{name}") for name in ("on-Z", "same-sign"))
    assert len(three) > 10
    assert three.mll.between(81.2, 101.2).all()
    assert (three.met_et > 30).all()
    assert (
        three[[f"lep{i}_isTightID" for i in (1, 2, 3)]].eq(1)
        | three[[f"lep{i}_flav" for i in (1, 2, 3)]].eq(13).to_numpy()
    ).all(axis=None), "electrons are tight, as in 3L"
    assert len(two) > 10
    assert (two.isOS == 0).all()
    assert (two.lep2_pt > 20).all()


def test_a_feature_is_a_column_a_histogram_and_an_input(place: Path) -> None:
    follow("a-feature")
    events, manifest = (
        _events("output/my-features/shards/3L"),
        _read("output/my-features/shards/3L/manifest.json"),
    )
    angle = events.lep1_phi - events.met_phi
    by_hand = np.sqrt(2 * events.lep1_pt * events.met_et * (1 - np.cos(angle)))
    assert np.allclose(events.mt_lead, by_hand, rtol=1e-3, atol=0.05)
    assert (events.n_central <= events.njet20).all()
    assert events.jet_mass[events.njet20 == 0].eq(0).all()
    assert manifest["features"]["table"][-2:] == ["mt_lead", "n_central"]
    compared = _read("output/my-features/agreement.json")["regions"]["3L"]["inputs"]
    assert all(compared[name]["ndf"] > 0 for name in ("mt_lead", "n_central", "jet_mass"))


def test_a_changed_feature_is_made_anew_and_nothing_else_of_the_hash_changes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    select = next(b.code for b in blocks_of("a-feature") if b.language == "sh").splitlines()[0]
    for block in blocks_of("a-feature"):
        if block.file:
            Path(block.file).write_text(block.code, encoding="utf-8")
    _give(select)
    before = _read("output/my-features/shards/3L/manifest.json")
    module = Path("my_columns.py")
    module.write_text(module.read_text(encoding="utf-8").replace("< 1)", "< 2)"), encoding="utf-8")
    monkeypatch.delitem(sys.modules, "my_columns")
    _give(select)
    after = _read("output/my-features/shards/3L/manifest.json")
    assert after["config_hash"] != before["config_hash"]
    assert after["datasets"] == before["datasets"]


def test_a_model_of_ones_own_trains_and_scores_without_its_builder(place: Path) -> None:
    follow("a-model")
    Path("my_models.py").unlink()
    from models.bundle import load_model  # noqa: PLC0415 - imports Keras

    model = load_model("output/my-model/models/3L/normalised")
    shards, scored = _events("output/my-model/shards/3L"), _events("output/my-model/scores/3L/normalised")
    assert np.allclose(np.sort(model.score(shards)), np.sort(scored.score), atol=1e-5)
    assert not model.card["collapsed"]

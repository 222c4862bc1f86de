"""Significances that are expected: the formula, and what goes into it."""

import json
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyhf
import pytest
from coffea.processor import accumulate
from scipy.optimize import minimize_scalar

from fileset.exceptions import InputError
from models.efficiency import UpperTail
from models.settings import SignificanceSettings
from models.studies.limits import signal_model
from models.studies.significance import Cuts, asimov_significance, significance
from processors.histograms import save_histograms, score_histogram

KINDS = {
    "1.Zee": ("background", "Zjets", "Zee", 0.0, 30_000, 0.5),
    "2.ttbar": ("background", "ttbar", "ttbar", 0.6, 9_000, 0.1),
    "3.C1N2": ("signal", "SUSY", "C1N2", 2.0, 3_000, 0.01),
    "4.WRa": ("signal", "WR", "WR", 3.0, 1_000, 0.02),
    "5.WRb": ("signal", "WR", "WR", 3.0, 1_000, 0.02),
    "6.none": ("signal", "Zprime", "Zprime", 2.0, 0, 1.0),
    "data_A": ("data", "data", "data_A", 0.0, 1_000, 1.0),
}


def _tables(*, signal: float = 0.0) -> dict[str, dict[str, np.ndarray]]:
    """Gaussian scores; E_T^miss is a better variable than the score for the first signal alone."""
    tables = {}
    for number, (dataset, (kind, _, process, centre, n, weight)) in enumerate(KINDS.items()):
        rng = np.random.default_rng(number)
        shift = signal if kind == "signal" else 0.0
        met = 2.0 if process == "C1N2" else 0.0 if kind == "signal" else -1.0
        tables[dataset] = {
            "weight": weight * rng.exponential(1.0, n) if kind != "data" else np.ones(n),
            "split": rng.choice([0, 1, 2], n, p=[0.64, 0.16, 0.2]).astype(np.uint8),
            "flcomp": np.full(n, 6, dtype=np.int8),
            "score": rng.normal(centre + shift, 0.7, n).astype(np.float32),
            "met_et": rng.normal(met, 0.6, n).astype(np.float32),
        }
    return tables


def _write(folder: Path, tables: dict[str, dict[str, np.ndarray]]) -> Path:
    """Scores as the score stage leaves them."""
    manifest: dict[str, Any] = {
        "format": 1, "region": "2L", "model": "default-table", "complete": True, "variables": ["met_et"],
        "lumi_pb": 100.0, "shards": [],
        "datasets": {
            name: {"kind": kind, "group": group, "process": process, "label": group, "model": {}}
            for name, (kind, group, process, *_) in KINDS.items() if name in tables
        },
    }  # fmt: skip
    filled = []
    for dataset, table in tables.items():
        path = folder / f"{dataset}.parquet"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), path)
        manifest["shards"].append({"path": path.name, "dataset": dataset, "rows": len(table["weight"])})
        of = {name: table[name] for name in ("split", "flcomp", "score")}
        if len(table["weight"]):  # a dataset of which no event is selected is in no histogram
            filled.append(score_histogram(dataset, 2, weights={"nominal": table["weight"]}, **of))
    save_histograms({"2L/score/default-table": accumulate(filled)}, folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder / "manifest.json"


@pytest.fixture(scope="module")
def tables() -> dict[str, dict[str, np.ndarray]]:
    return _tables()


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory, tables: dict[str, dict[str, np.ndarray]]) -> Path:
    return _write(tmp_path_factory.mktemp("scores"), tables)


@pytest.fixture(scope="module")
def found(scores: Path) -> dict[str, Any]:
    return significance(scores)


def test_significance_is_that_calculated_by_hand() -> None:
    assert asimov_significance(10.0, 100.0) == pytest.approx(sqrt(2 * (110 * log(1.1) - 10)), rel=1e-12)
    # s + b = 110, b + σ² = 200, b² + (s + b)σ² = 21 000, b²/σ² = 100, σ²s / b(b + σ²) = 0.05
    by_hand = sqrt(2 * (110 * log(22_000 / 21_000) - 100 * log(1.05)))
    assert by_hand == pytest.approx(0.6902, abs=1e-4)
    assert asimov_significance(10.0, 100.0, 10.0) == pytest.approx(by_hand, rel=1e-10)


@pytest.mark.parametrize(("s", "b", "sigma"), [(10, 100, 10), (5, 2, 0.6), (3, 0.5, 0.1), (40, 30, 9)])
def test_significance_is_the_ratio_of_profiled_likelihoods(s: float, b: float, sigma: float) -> None:
    """n = s + b counted, m = τb in an auxiliary Poisson measurement of relative error σ/b, τ = b/σ²."""
    n, tau = s + b, b / sigma**2
    m = tau * b

    def log_likelihood(mean: float, background: float) -> float:
        return n * log(mean) - mean + m * log(tau * background) - tau * background

    profiled = minimize_scalar(lambda x: -log_likelihood(x, x), bounds=(1e-3, n), options={"xatol": 1e-10})
    q0 = 2 * (log_likelihood(n, b) + profiled.fun)
    assert asimov_significance(s, b, sigma) == pytest.approx(sqrt(q0), rel=1e-6)


@pytest.mark.parametrize(("s", "b", "sigma"), [(10, 100, 10), (5, 2, 0.6), (40, 30, 9)])
def test_pyhf_discovers_with_the_same_significance(s: float, b: float, sigma: float) -> None:
    model = signal_model(np.array([b]), np.array([sigma]), np.array([s]))
    initial = np.array(model.config.suggested_init())  # strength 1
    p = pyhf.infer.hypotest(0.0, model.expected_data(initial), model, test_stat="q0")
    expected = pyhf.tensorlib.normal_cdf(-asimov_significance(s, b, sigma))
    assert float(p) == pytest.approx(float(expected), rel=0.01)


def test_a_known_background_and_a_small_signal_give_the_textbook_ratio() -> None:
    assert asimov_significance(1.0, 1e6) == pytest.approx(1e-3, rel=1e-6)
    assert asimov_significance(1.0, 1e6, 1e5) == pytest.approx(1 / sqrt(1e6 + 1e10), rel=1e-5)
    around = asimov_significance([0.99e-6, 1.01e-6], 1.0, 0.3)  # where the formula takes over
    assert around[1] / around[0] == pytest.approx(1.01 / 0.99, rel=1e-3)


def test_significance_falls_with_uncertainty_and_is_not_told_without_background() -> None:
    falling = asimov_significance(10.0, 100.0, [0.0, 1e-5, 1.0, 10.0, 100.0])
    assert falling[0] == pytest.approx(falling[1], rel=1e-9)
    assert (np.diff(falling[1:]) < 0).all()
    assert np.isnan(asimov_significance([1.0, 0.0, -1.0], [0.0, 1.0, 1.0])).all()


def test_what_passes_is_what_is_counted_one_by_one() -> None:
    rng = np.random.default_rng(1)
    score, weight = np.round(rng.normal(0, 1, 3000), 1), rng.normal(1, 0.8, 3000)
    cuts = Cuts.of(UpperTail.of(score, np.abs(weight)), [1.0, 0.1, 0.1003, 0.01])
    sumw, sumw2 = cuts.sums(score, weight)
    for i, (cut, part) in enumerate(zip(cuts.score, cuts.part, strict=True)):
        passing = np.where(score > cut, 1.0, np.where(score == cut, part, 0.0))
        assert sumw[i] == pytest.approx(weight @ passing)
        assert sumw2[i] == pytest.approx(weight**2 @ passing)


def test_background_and_signal_are_those_of_the_whole_luminosity(
    found: dict[str, Any], tables: dict[str, Any]
) -> None:
    total = sum(tables[name]["weight"].sum() for name in ("1.Zee", "2.ttbar"))
    for key, cut in found["cuts"].items():
        assert cut["b"] == pytest.approx(float(key) * total, rel=1e-6)
        above = tables["3.C1N2"]["score"].astype(float) > cut["score"]
        assert found["signals"]["C1N2"]["cuts"][key]["s"] == pytest.approx(
            tables["3.C1N2"]["weight"][above].sum(), rel=1e-6
        )
    both = [tables[name] for name in ("4.WRa", "5.WRb")]
    assert found["signals"]["WR"]["sumw"] == pytest.approx(sum(table["weight"].sum() for table in both))


def test_the_cut_does_not_know_the_signal_and_nothing_knows_the_data(
    tmp_path: Path, found: dict[str, Any]
) -> None:
    assert significance(_write(tmp_path / "other", _tables(signal=1.0)))["cuts"] == found["cuts"]
    without = {name: table for name, table in _tables().items() if name != "data_A"}
    assert significance(_write(tmp_path / "blind", without)) == found


def test_the_error_of_the_background_is_its_spread_over_resampled_samples(
    found: dict[str, Any], tables: dict[str, Any]
) -> None:
    rng = np.random.default_rng(5)
    cut = found["cuts"]["1e-2"]["score"]
    yields = []
    for _ in range(400):
        total = 0.0
        for name in ("1.Zee", "2.ttbar"):
            table = tables[name]
            weight = table["weight"] * rng.poisson(1, len(table["weight"]))
            test, above = table["split"] == 2, table["score"] > cut
            total += weight.sum() * weight[test & above].sum() / weight[test].sum()
        yields.append(total)
    assert found["cuts"]["1e-2"]["b_error"] == pytest.approx(np.std(yields), rel=0.1)
    # Where few events pass it is that of the effective number, and the fifth that is held out costs its square root.
    entry = found["cuts"]["1e-2"]
    assert entry["b_error"] == pytest.approx(entry["b"] / sqrt(entry["n_eff"]), rel=0.02)
    assert entry["b_uncertainty"] == pytest.approx(np.hypot(entry["b_error"], 0.1 * entry["b"]))


def test_the_error_of_a_significance_is_its_spread_over_resampled_yields(found: dict[str, Any]) -> None:
    rng = np.random.default_rng(6)
    cut, entry = found["cuts"]["1e-2"], found["signals"]["WR"]["cuts"]["1e-2"]
    b = np.maximum(rng.normal(cut["b"], cut["b_error"], 4000), 0.1)
    s = rng.normal(entry["s"], entry["s_error"], 4000)
    spread = np.std(asimov_significance(s, b, np.hypot(cut["b_error"], 0.1 * b)))
    assert entry["z_error"] == pytest.approx(spread, rel=0.1)


def test_uncertainties_cost_significance_and_s_over_root_b_is_largest(found: dict[str, Any]) -> None:
    for name in ("C1N2", "WR"):
        for key in ("1e-1", "1e-2"):
            entry = found["signals"][name]["cuts"][key]
            assert entry["z"] < entry["z_statistical"] < entry["z_without"] < entry["s_over_sqrt_b"]
            b = found["cuts"][key]["b"]
            assert entry["s_over_sqrt_b"] == pytest.approx(entry["s"] / sqrt(b))


def test_nothing_is_claimed_beyond_ten_effective_events(found: dict[str, Any]) -> None:
    n_eff, scan = found["scan"]["n_eff"], found["signals"]["WR"]["scan"]
    assert min(n_eff) < 10 < max(n_eff)
    for supported, z in zip(np.array(n_eff) >= 10, scan["z"], strict=True):
        assert (z is not None) == supported
    assert found["cuts"][found["tightest"]]["n_eff"] >= 10
    unsupported = [key for key, cut in found["cuts"].items() if not cut["supported"]]
    assert unsupported
    for key in unsupported:
        entry = found["signals"]["WR"]["cuts"][key]
        assert entry["unsupported"]
        assert entry["z"] is entry["z_error"] is entry["s_over_sqrt_b"] is None
    assert found["signals"]["WR"]["best"]["n_eff"] >= 10


def test_the_best_variable_stands_beside_the_score(found: dict[str, Any]) -> None:
    entry = found["signals"]["C1N2"]["cuts"]["1e-2"]
    assert entry["variable"]["name"] == "met_et"
    assert entry["variable"]["z"] > entry["z"]


def test_a_signal_without_events_is_unsupported_everywhere(found: dict[str, Any]) -> None:
    entry = found["signals"]["Zprime"]
    assert entry["best"] is None
    assert all(cut["unsupported"] for cut in entry["cuts"].values())
    assert entry["limit"]["status"] == "no signal"


def test_the_document_is_plain_json(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_of_a_model_that_was_trained_on_data_the_rest_is_the_luminosity(
    scores: Path, found: dict[str, Any]
) -> None:
    card = {"trained_on": {"kind": "data", "fractions": [0.4, 0.1, 0.5]}}
    half = significance(scores, card=card)
    assert half["lumi_pb"] == 50.0
    assert half["cuts"]["1e-2"]["b"] == pytest.approx(0.5 * found["cuts"]["1e-2"]["b"], rel=1e-6)
    assert half["signals"]["WR"]["sumw"] == pytest.approx(0.5 * found["signals"]["WR"]["sumw"])
    assert half["cuts"]["1e-2"]["n_eff"] > 3 * found["cuts"]["1e-2"]["n_eff"], "it has seen no simulation"
    assert sum(half["limits"]["background"]) == pytest.approx(
        0.5 * sum(found["limits"]["background"]), rel=1e-6
    )


def test_a_systematic_uncertainty_can_be_left_out(scores: Path) -> None:
    entry = significance(scores, settings=SignificanceSettings(systematic=0.0))["signals"]["WR"]
    assert entry["cuts"]["1e-2"]["z"] == entry["cuts"]["1e-2"]["z_statistical"]
    assert entry["limit"]["median"] == pytest.approx(entry["limit"]["without_systematic"], rel=1e-3)


def test_scores_without_their_histogram_or_without_background_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "scores", _tables())
    path.with_name("histograms.json").unlink()
    with pytest.raises(InputError, match="no histogram 2L/score/default-table"):
        significance(path)
    only = {name: table for name, table in _tables().items() if KINDS[name][0] != "background"}
    with pytest.raises(InputError, match="no background"):
        significance(_write(tmp_path / "signal", only))

"""One table of models, baselines and variables: of the same events, with the best variable as a rival by name."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fileset.exceptions import FailureError, InputError
from models.settings import EvaluationSettings
from models.studies.evaluation import evaluate

SETTINGS = EvaluationSettings(replicas=200)
SAMPLES = {"1.Zee": ("background", "Zjets", 9_000), "2.tt": ("background", "ttbar", 3_000),
           "3.low": ("signal", "SUSY", 800), "4.high": ("signal", "SUSY", 800)}  # fmt: skip
FEATURES = ["met_et", "mll", "noise"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Scores of an ensemble, of a baseline, and shards with inputs; E_T^miss finds one signal, m_ll the other."""
    root = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(8)
    centres = {"1.Zee": (0, 0), "2.tt": (0.5, 0), "3.low": (2, 0), "4.high": (0.2, 2.5)}
    listed = {"scores/model": [], "scores/baseline-sum": [], "shards": []}
    for name, (_, _, n) in SAMPLES.items():
        met, mll = (rng.normal(centre, 1, n) for centre in centres[name])
        shared = {
            "channelNumber": np.full(n, int(name[0]), np.int32), "runNumber": np.zeros(n, np.int32),
            "eventNumber": np.arange(n, dtype=np.uint64), "weight": rng.exponential(1, n),
        }  # fmt: skip
        split = rng.choice([0, 1, 2], n).astype(np.uint8)
        score = met + 0.5 * mll
        members = {f"score_member{i}": score + 0.2 * i * rng.normal(0, 1, n) for i in range(5)}
        columns = {
            "scores/model": {"split": split, "score": score, "met_et": met, "mll": mll, **members},
            "scores/baseline-sum": {"split": split, "score": met + mll},
            "shards": {"met_et": met, "mll": mll, "noise": rng.normal(0, 1, n)},
        }
        for place, own in columns.items():
            path = root / place / name / "0.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(pa.table(shared | own), path)
            listed[place].append({"path": f"{name}/0.parquet", "dataset": name, "rows": n})
    datasets = {
        name: {"kind": kind, "group": group, "process": name, "label": name}
        for name, (kind, group, _) in SAMPLES.items()
    }
    for place, shards in listed.items():
        kinds = ["mse", *(f"member{i}" for i in range(5))] if place == "scores/model" else ["sum"]
        manifest = {
            "format": 1, "model": place.split("/")[-1], "scores": kinds, "variables": ["met_et", "mll"],
            "datasets": datasets, "shards": shards,
        }  # fmt: skip
        (root / place / "manifest.json").write_text(json.dumps(manifest))
    return root


def manifest(run, name="scores/model"):
    return run / name / "manifest.json"


@pytest.fixture(scope="module")
def region(run):
    return evaluate(manifest(run), others=[manifest(run, "scores/baseline-sum")], settings=SETTINGS)


def test_baselines_and_variables_stand_beside_the_score_with_their_roles(region):
    scores = region["signals"]["3.low"]["scores"]
    roles = {name: entry["role"] for name, entry in scores.items()}
    assert roles == {"score": "model", "baseline-sum": "baseline", "met_et": "variable", "mll": "variable"}
    assert region["model"]["scores"] == ["mse"]
    json.dumps(region, allow_nan=False)


def test_the_best_variable_is_another_for_each_signal_and_is_no_baseline(region):
    best = {name: entry["best_variable"]["auc"] for name, entry in region["signals"].items()}
    assert best == {"3.low": "met_et", "4.high": "mll"}
    entry = region["signals"]["4.high"]["scores"]
    against = entry["score"]["against_best"]
    assert against["auc"]["difference"] == pytest.approx(entry["score"]["auc"] - entry["mll"]["auc"])
    ratio = entry["score"]["eps_s"]["1e-1"]["value"] / entry["mll"]["eps_s"]["1e-1"]["value"]
    assert against["eps_s"]["1e-1"]["ratio"] == pytest.approx(ratio)
    itself = {"variable": "mll", "difference": 0.0, "error": 0.0}
    assert entry["mll"]["against_best"]["auc"] == itself


def test_the_error_of_a_difference_knows_what_two_scores_have_in_common(region):
    entry = region["signals"]["3.low"]["scores"]
    apart = np.hypot(entry["score"]["auc_error"], entry["met_et"]["auc_error"])
    assert 0 < entry["score"]["against_best"]["auc"]["error"] < 0.75 * apart


def test_the_summary_is_the_mean_over_signals_and_the_oracle_is_the_best_of_each(region):
    summary, signals = region["summary"]["scores"], region["signals"]
    delta = [entry["scores"]["score"]["against_best"]["auc"]["difference"] for entry in signals.values()]
    assert summary["score"]["delta_auc"]["mean"] == pytest.approx(np.mean(delta))
    assert summary["score"]["delta_auc"]["worst"] == pytest.approx(min(delta))
    assert summary["score"]["delta_auc"]["worst_signal"] == "4.high"
    best = np.mean(
        [
            max(entry["scores"][v]["eps_s"]["1e-1"]["value"] for v in ("met_et", "mll"))
            for entry in signals.values()
        ]
    )
    assert summary["best_variable"]["eps_s"]["1e-1"]["mean"] == pytest.approx(best)
    own = summary["score"]["eps_s"]["1e-1"]
    assert own["ratio"] == pytest.approx(own["mean"] / best)
    assert 0 < own["ratio_error"] < 0.2
    assert summary["score"]["eps_s"]["1e-4"]["unsupported"]


def test_the_networks_of_an_ensemble_give_a_band(region):
    seeds = region["signals"]["3.low"]["scores"]["score"]["seeds"]
    assert seeds["n"] == 5
    assert (
        seeds["auc"]["min"]
        < seeds["auc"]["max"]
        <= region["signals"]["3.low"]["scores"]["score"]["auc"] + 1e-9
    )
    assert len(region["summary"]["scores"]["score"]["seeds"]["eps_s"]["1e-1"]) == 5
    assert "seeds" not in region["signals"]["3.low"]["scores"]["met_et"]


def test_scores_of_other_events_are_refused(run, tmp_path):
    (tmp_path / "other").mkdir()
    content = json.loads(manifest(run, "scores/baseline-sum").read_text())
    for shard in content["shards"]:
        table = pq.read_table(run / "scores" / "baseline-sum" / shard["path"])
        path = tmp_path / "other" / shard["path"]
        path.parent.mkdir()
        pq.write_table(table.take(np.arange(table.num_rows)[::-1]), path)
    path = tmp_path / "other" / "manifest.json"
    path.write_text(json.dumps(content))
    with pytest.raises(FailureError, match="other events of"):
        evaluate(manifest(run), others=[path], settings=SETTINGS)
    with pytest.raises(InputError, match="give each model once"):
        evaluate(manifest(run), others=[manifest(run)], settings=SETTINGS)


def test_trees_that_saw_the_signal_are_a_ceiling_of_all_others(run):
    settings = EvaluationSettings(replicas=200, ceiling=True, ceiling_events=4_000)
    region = evaluate(
        manifest(run), card={"features": FEATURES}, shards=manifest(run, "shards"), settings=settings
    )
    for entry in region["signals"].values():
        ceiling = entry["ceiling"]
        assert ceiling["saw_this_signal"]
        assert (
            ceiling["auc"]
            > max(score["auc"] for score in entry["scores"].values()) - 3 * ceiling["auc_error"]
        )
        assert ceiling["n"] + ceiling["trained_on"]["signal"] == entry["n"] == 800
        assert ceiling["n"] == pytest.approx(400, abs=60)
        assert ceiling["trained_on"]["background"] == 4_000
        assert ceiling["auc"] < 0.99  # on events that were trained on it would be 1
    with pytest.raises(InputError, match="needs the region's shards"):
        evaluate(manifest(run), card={"features": FEATURES}, settings=settings)

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from fileset.exceptions import FailureError, InputError
from models.studies.evaluation import evaluate
from processors.files import checksum

KINDS = {
    "1.Zee": ("background", "Zjets", 0.0, 20_000),
    "2.ttbar": ("background", "ttbar", 1.0, 4_000),
    "3.susy300": ("signal", "SUSY", 2.0, 3_000),
    "4.susy800": ("signal", "SUSY", 4.0, 2_000),
    "5.none": ("signal", "Zprime", 2.0, 0),
    "data_A": ("data", "data", 0.0, 1_000),
}


@pytest.fixture
def tables():
    """Scores of Gaussian shape around 0 (Z) to 4 (heavy signal); E_T^miss follows the score in part."""
    rng = np.random.default_rng(4)
    tables = {}
    for dataset, (_, _, centre, n) in KINDS.items():
        score = rng.normal(centre, 1, n)
        tables[dataset] = {
            "weight": rng.exponential(0.5 if dataset == "2.ttbar" else 2.0, n),
            "split": rng.integers(0, 3, n).astype(np.uint8),
            "score": score.astype(np.float32),
            "met_et": (50 * np.exp(0.3 * score + rng.normal(0, 1, n))).astype(np.float32),
        }
    return tables


@pytest.fixture
def scores(tmp_path, tables):
    """A manifest of scores as the score stage writes it."""
    manifest = {
        "format": 1,
        "region": "2L",
        "model": "default-table",
        "complete": True,
        "variables": ["met_et"],
        "datasets": {
            dataset: {"kind": kind, "group": group, "process": dataset, "label": group.lower(), "model": {}}
            for dataset, (kind, group, _, _) in KINDS.items()
        },
        "shards": [],
    }
    for dataset, table in tables.items():
        n = len(table["weight"])
        for start in range(0, n, 2500):
            path = tmp_path / dataset / f"{start}.parquet"
            path.parent.mkdir(exist_ok=True)
            part = {name: column[start : start + 2500] for name, column in table.items()}
            pq.write_table(pa.table(part), path)
            manifest["shards"].append(
                {"path": f"{dataset}/{start}.parquet", "dataset": dataset, "rows": len(part["weight"])}
            )
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


def _test_background(tables, name):
    """Held-out background; each dataset has the sum of weights of all its events."""
    parts = []
    for dataset in ("1.Zee", "2.ttbar"):
        values, test = tables[dataset][name], tables[dataset]["split"] == 2
        scale = values.sum() / values[test].sum() if name == "weight" else 1
        parts.append(values[test] * scale)
    return np.concatenate(parts)


@pytest.mark.parametrize("name", ["score", "met_et"])
def test_areas_are_those_of_scikit_learn_on_held_out_background_and_all_signal(scores, tables, name):
    entry = evaluate(scores)["signals"]["3.susy300"]["scores"][name]
    background, weight = _test_background(tables, name), _test_background(tables, "weight")
    signal = tables["3.susy300"]
    expected = roc_auc_score(
        np.repeat([0, 1], [len(background), len(signal[name])]),
        np.concatenate([background, signal[name]]),
        sample_weight=np.concatenate([weight, signal["weight"]]),
    )
    assert entry["auc"] == pytest.approx(expected, abs=1e-9)
    assert 0 < entry["auc_error"] < 0.02


def test_signal_efficiencies_are_those_above_the_background_quantile(scores, tables):
    entry = evaluate(scores)["signals"]["3.susy300"]["scores"]["score"]["eps_s"]
    background, weight = _test_background(tables, "score"), _test_background(tables, "weight")
    signal = tables["3.susy300"]
    order = np.argsort(-background)
    share = np.cumsum(weight[order]) / weight.sum()
    for key, eps_b in (("1e-1", 0.1), ("1e-2", 0.01)):
        cut = background[order][np.searchsorted(share, eps_b)]
        expected = signal["weight"][signal["score"] > cut].sum() / signal["weight"].sum()
        assert entry[key]["value"] == pytest.approx(expected, abs=0.01)
        assert 0 < entry[key]["error"] < 0.1
        passing = weight[background > cut]
        assert entry[key]["n_eff_background"] == pytest.approx(
            passing.sum() ** 2 / (passing**2).sum(), rel=0.05
        )


def test_what_statistics_cannot_support_is_null_and_marked(scores):
    entry = evaluate(scores)["signals"]["3.susy300"]["scores"]["score"]["eps_s"]["1e-4"]
    assert entry["value"] is None
    assert entry["unsupported"]
    assert entry["n_eff_background"] < 10


def test_families_hold_all_their_datasets_and_processes_are_compared_with_the_rest(scores, tables):
    region = evaluate(scores)
    assert region["families"]["SUSY"]["datasets"] == ["3.susy300", "4.susy800"]
    assert region["families"]["SUSY"]["n"] == 5000
    areas = [region["signals"][name]["scores"]["score"]["auc"] for name in ("3.susy300", "4.susy800")]
    assert areas[0] < region["families"]["SUSY"]["scores"]["score"]["auc"] < areas[1]
    top = region["processes"]["ttbar"]["scores"]["score"]["auc"]
    assert top == pytest.approx(1 - region["processes"]["Zjets"]["scores"]["score"]["auc"], abs=1e-9)
    assert top == pytest.approx(0.76, abs=0.02)  # Φ(1/√2)


def test_test_events_stand_for_all_background_as_in_the_stacks(scores, tables):
    background = evaluate(scores)["background"]
    weight = _test_background(tables, "weight")
    assert background["n"] == len(weight)
    assert background["sumw"] == pytest.approx(sum(tables[d]["weight"].sum() for d in ("1.Zee", "2.ttbar")))
    assert background["n_eff"] == pytest.approx(weight.sum() ** 2 / (weight**2).sum())


def test_a_background_of_which_nothing_was_held_out_counts_with_all_its_events(tmp_path, scores, tables):
    for path in (tmp_path / "2.ttbar").iterdir():
        table = pq.read_table(path)
        split = pa.array(np.zeros(table.num_rows, np.uint8))
        pq.write_table(table.set_column(table.column_names.index("split"), "split", split), path)
    background = evaluate(scores)["background"]
    assert background["n"] == (tables["1.Zee"]["split"] == 2).sum() + 4_000
    assert background["sumw"] == pytest.approx(sum(tables[d]["weight"].sum() for d in ("1.Zee", "2.ttbar")))


def test_further_scores_are_measured_beside_the_first(tmp_path, scores):
    for path in tmp_path.glob("*/*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.append_column("score_mae", pa.array(-table["score"].to_numpy())), path)
    scores.write_text(json.dumps(json.loads(scores.read_text()) | {"scores": ["mse", "mae"]}))
    region = evaluate(scores)
    assert region["model"]["scores"] == ["mse", "mae"]
    measured = region["signals"]["3.susy300"]["scores"]
    assert list(measured) == ["score", "score_mae", "met_et"]
    assert measured["score_mae"]["auc"] == pytest.approx(1 - measured["score"]["auc"], abs=1e-9)


def test_the_result_is_plain_json_with_a_rising_curve(scores):
    region = json.loads(json.dumps(evaluate(scores, card={"features": ["a"]}), allow_nan=False))
    assert region["model"]["features"] == ["a"]
    roc = region["signals"]["4.susy800"]["scores"]["score"]["roc"]
    assert len(roc["eps_b"]) == len(roc["eps_s"]) <= 200
    assert len(roc["error"]) == len(roc["eps_s"])
    assert max(roc["error"]) < 0.1
    for axis in (roc["eps_b"], roc["eps_s"]):
        assert axis[0] == 0
        assert axis[-1] == 1
        assert (np.diff(axis) >= 0).all()


def test_a_signal_that_selects_nothing_has_no_measures(scores):
    entry = evaluate(scores)["signals"]["5.none"]
    assert entry["n"] == 0
    assert entry["scores"]["score"]["auc"] is None
    assert entry["scores"]["score"]["eps_s"]["1e-1"]["unsupported"]


def test_signals_can_be_chosen_by_dataset_or_family(scores):
    assert list(evaluate(scores, signals=["4.susy800"])["signals"]) == ["4.susy800"]
    assert list(evaluate(scores, signals=["SUSY"])["signals"]) == ["3.susy300", "4.susy800"]
    with pytest.raises(InputError, match="susy900"):
        evaluate(scores, signals=["susy900"])


def test_a_sample_without_signals_is_evaluated_too(scores):
    content = json.loads(scores.read_text())
    content["shards"] = [entry for entry in content["shards"] if "susy" not in entry["dataset"]]
    content["datasets"] = {name: d for name, d in content["datasets"].items() if d["kind"] != "signal"}
    scores.write_text(json.dumps(content))
    region = evaluate(scores)
    assert region["signals"] == {}
    assert set(region["processes"]) == {"Zjets", "ttbar"}


def test_scores_that_cannot_be_used_are_named(tmp_path, scores):
    with pytest.raises(InputError, match="run the stage score first"):
        evaluate(tmp_path / "none" / "manifest.json")
    pq.write_table(pq.read_table(tmp_path / "1.Zee" / "0.parquet").slice(5), tmp_path / "1.Zee" / "0.parquet")
    with pytest.raises(FailureError, match="2495 rows"):
        evaluate(scores)
    (tmp_path / "1.Zee" / "0.parquet").unlink()
    with pytest.raises(FailureError, match=r"1\.Zee/0\.parquet"):
        evaluate(scores)
    content = json.loads(scores.read_text())
    scores.write_text(json.dumps(content | {"shards": []}))
    with pytest.raises(InputError, match="no background of the test split"):
        evaluate(scores)


def test_scores_with_other_bytes_than_were_written_are_refused(scores):
    content = json.loads(scores.read_text())
    shard = scores.parent / content["shards"][0]["path"]
    content["shards"][0]["checksum"] = checksum(shard)
    scores.write_text(json.dumps(content))
    evaluate(scores)
    table = pq.read_table(shard)
    index = table.column_names.index("score")
    pq.write_table(table.set_column(index, "score", pa.array(table["score"].to_numpy() + 1)), shard)
    with pytest.raises(FailureError, match="does not have the checksum of its manifest: run score again"):
        evaluate(scores)

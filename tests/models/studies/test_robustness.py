"""What the tests of a trained model say: of models, columns and the files that events came from."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from coffea.nanoevents import NanoEventsFactory

from fileset.exceptions import FailureError, InputError
from models.settings import RobustnessSettings, TrainingSettings
from models.studies.hardening import STRENGTHS
from models.studies.perturbations import event_features
from models.studies.robustness import robustness
from models.training import train
from processors.schema import OpenDataSchema, event_record
from processors.settings import REGIONS, RMMSettings

DEMO = Path(__file__).parents[3] / "fileset" / "demo" / "2lep" / "MC"
REGION, RMM = REGIONS["2L"], RMMSettings()
COLUMNS = ("swapped-columns", "swapped-objects", "noise")


def robustness_of(bundle, manifest=None, *, seed=11, tests=COLUMNS, **settings):
    output = bundle.parents[2]
    return robustness(
        manifest or output / "shards" / "2L" / "manifest.json",
        bundle,
        features="table",
        training=TrainingSettings(),
        settings=RobustnessSettings(tests=tests, **settings),
        region=REGION,
        rmm=RMM,
        seed=seed,
        output=output,
    )


@pytest.fixture(scope="module")
def result(trained):
    return robustness_of(trained, noise=(0, 0.1, 1, 3), n_swaps=2)


def test_noise_is_noticed_the_more_the_larger_it_is(result):
    none, *some = result["inputs"]["noise"]
    assert none["auc"] == pytest.approx(0.5, abs=1e-3)
    areas = [entry["auc"] for entry in some]
    assert areas == sorted(areas)
    assert areas[-1] > 0.9
    assert [entry["shift"] for entry in some] == sorted(entry["shift"] for entry in some)


def test_noise_can_leave_absent_objects_absent(trained):
    tests = ("noise", "noise-filled")
    found = robustness_of(trained, tests=tests, noise=(0, 1))["inputs"]
    assert [entry["size"] for entry in found["noise-filled"]] == [0, 1]
    assert found["noise"][0] == found["noise-filled"][0]
    assert found["noise"][1]["auc"] != found["noise-filled"][1]["auc"]


def test_pairs_of_columns_are_drawn_among_those_that_vary(result, features):
    *pairs, every = result["inputs"]["swapped-columns"]
    assert len(pairs) == 2
    names = [name for entry in pairs for name in entry["columns"][0]]
    assert len(set(names)) == 4
    assert set(names) <= set(features) - {"never_filled"}
    assert every["columns"] == [entry["columns"][0] for entry in pairs]


def test_named_columns_are_exchanged_and_a_model_without_them_says_so(trained):
    found = robustness_of(
        trained, tests=("swapped-columns",), swaps=(("lep1_pt", "met_et"), ("lep3_pt", "mll"))
    )
    (entry,) = found["inputs"]["swapped-columns"]
    assert entry["columns"] == [["lep1_pt", "met_et"]]
    assert entry["auc"] > 0.5
    with pytest.raises(InputError, match="none of the pairs"):
        robustness_of(trained, tests=("swapped-columns",), swaps=(("lep3_pt", "mll"),))


def test_the_result_is_plain_json_and_the_same_twice(trained, result):
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert robustness_of(trained, noise=(0, 0.1, 1, 3), n_swaps=2) == result
    alone = robustness_of(trained, tests=("noise",), noise=(0, 0.1, 1, 3))
    assert alone["inputs"]["noise"] == result["inputs"]["noise"]


def test_a_model_of_another_split_is_refused(trained):
    with pytest.raises(InputError, match="split of seed 11, not 12"):
        robustness_of(trained, seed=12)


def test_shards_that_name_no_file_cannot_be_tested_with_leptons(trained):
    with pytest.raises(FailureError, match="do not say where they come from"):
        robustness_of(trained, tests=("lepton-pt",))


# --- leptons, in the files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def selected(tmp_path_factory, shard_writer):
    """Shards and a model of some events of the demo, in two chunks each."""
    output, samples, sources = tmp_path_factory.mktemp("demo"), {}, {}
    features = ["lep1_pt", "lep2_pt", "lep1_E", "mll", "met_et", "ht", "st", "et_mu1"]
    for dsid, process, group in ((361107, "Zmumu", "Zjets"), (410000, "ttbar_lep", "ttbar")):
        name = f"{dsid}.{process}.2lep"
        file = DEMO / f"mc_{name}.root"
        record = event_record(
            NanoEventsFactory.from_root(
                {str(file): "mini"}, schemaclass=OpenDataSchema, entry_stop=1200
            ).events()
        )
        values, index = event_features(record, features, region=REGION, rmm=RMM)
        identity = {
            f"{column}Number": np.asarray(record[column])[index] for column in ("channel", "run", "event")
        }
        columns = {"weight": np.ones(len(index)), **dict(zip(features, values.T, strict=True))}
        samples[name] = ("background", group, identity | columns)
        sources[name] = {"file": str(file), "uuid": "", "start": 0, "stop": 1200}
    path = shard_writer(output / "shards" / "2L", samples)
    content = json.loads(path.read_text())
    content["features"]["table"] = features
    for name, book in content["datasets"].items():
        book["tree"] = "mini"
        assert sources[name]["stop"] > book["rows"] > 900
    for entry in content["shards"]:
        entry["source"] = sources[entry["dataset"]]
    path.write_text(json.dumps(content))
    return train(path, features="table", settings=TrainingSettings(epochs=4), seed=11, output=output)


def test_a_harder_lepton_is_the_more_anomalous_and_a_factor_of_one_is_not(selected):
    found = robustness_of(selected, tests=("lepton-pt", "lepton-pt-balanced"), lepton_factors=(1, 3, 10))[
        "inputs"
    ]
    for entries in found.values():
        one, some, most = entries
        assert one["auc"] == pytest.approx(0.5, abs=1e-4)
        assert 0.5 < some["auc"] < most["auc"]
        assert most["auc"] > 0.9
    assert found["lepton-pt"] != found["lepton-pt-balanced"]


def test_events_harder_in_any_way_are_more_anomalous_and_the_same_beside_other_tests(selected):
    alone = robustness_of(selected, tests=("harder",))["inputs"]["harder"]
    assert [(entry["way"], entry["strength"]) for entry in alone] == [
        (way, strength) for way, strengths in STRENGTHS.items() for strength in strengths
    ]
    assert all(entry["auc"] > 0.5 for entry in alone)
    for some, more in zip(alone[::2], alone[1::2], strict=True):
        assert some["auc"] < more["auc"]
    beside = robustness_of(selected, tests=("lepton-pt", "harder"), lepton_factors=(3,))["inputs"]
    assert beside["harder"] == alone


def test_files_that_do_not_give_the_shards_any_more_are_named(selected, tmp_path):
    manifest = selected.parents[2] / "shards" / "2L" / "manifest.json"
    content = json.loads(manifest.read_text())
    for entry in content["shards"]:
        entry["path"] = str(manifest.parent / entry["path"])

    def with_sources(**changes):
        changed = [entry | {"source": entry["source"] | changes} for entry in content["shards"]]
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps(content | {"shards": changed}))
        return path

    leptons = {"tests": ("lepton-pt",), "lepton_factors": (1,)}
    with pytest.raises(FailureError, match=r"cannot read nowhere\.root"):
        robustness_of(selected, with_sources(file="nowhere.root"), **leptons)
    with pytest.raises(FailureError, match=r"does not hold the events of 361107\.Zmumu\.2lep"):
        robustness_of(selected, with_sources(stop=100), **leptons)


def test_other_settings_than_those_of_the_selection_are_noticed(selected, tmp_path, shard_writer):
    manifest = selected.parents[2] / "shards" / "2L" / "manifest.json"
    content = json.loads(manifest.read_text())
    samples = {}
    for name, book in content["datasets"].items():
        parts = [
            pq.read_table(manifest.parent / e["path"]) for e in content["shards"] if e["dataset"] == name
        ]
        columns = {c: np.concatenate([part[c].to_numpy() for part in parts]) for c in parts[0].column_names}
        samples[name] = (book["kind"], book["group"], columns | {"ht": columns["ht"] + 20})
    path = shard_writer(tmp_path, samples)
    changed = json.loads(path.read_text())
    for entry in changed["shards"]:
        entry["source"] = next(e["source"] for e in content["shards"] if e["dataset"] == entry["dataset"])
    path.write_text(json.dumps(changed | {"datasets": content["datasets"], "features": content["features"]}))
    with pytest.raises(FailureError, match="do not give the features in the shards"):
        robustness_of(selected, path, tests=("lepton-pt",), lepton_factors=(1,))

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import xxhash

from fileset.exceptions import FailureError, InputError
from models.bundle import checksum_of_json, load_model, read_card


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained)


@pytest.fixture
def bundle(trained, tmp_path):
    """A copy of the bundle that a test may break."""
    return shutil.copytree(trained, tmp_path / "bundle")


@pytest.fixture(scope="module")
def background(samples, features):
    return np.column_stack([samples["1.Zee"][2][name] for name in features])


def test_an_event_scores_the_same_alone_and_among_many(model, background):
    many = np.tile(background, (34, 1))[:100_000]
    together = model.score(many)
    assert together.dtype == np.float32
    assert together.shape == (100_000,)
    alone = np.concatenate([model.score(many[index : index + 1]) for index in range(40)])
    np.testing.assert_allclose(alone, together[:40], rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.score(many[5:777]), together[5:777], rtol=0, atol=1e-6)
    assert model.score(many[:0]).shape == (0,)


def test_the_score_is_log10_of_the_mean_squared_error_of_scaled_inputs(model, background):
    scaled = model.scaler.transform(background)
    outputs = np.asarray(model.network(scaled))
    expected = np.log10(np.mean((outputs - scaled) ** 2, axis=1))
    np.testing.assert_allclose(model.score(background), expected, atol=1e-4)
    np.testing.assert_allclose(
        np.log10(model.residuals(background).mean(axis=1)), model.score(background), atol=1e-5
    )


def test_an_anomaly_made_by_hand_scores_above_all_but_a_thousandth_of_background(model, background, features):
    anomaly = np.median(background, axis=0)
    anomaly[features.index("met_et")] = 1500.0
    score = model.score(anomaly[np.newaxis])[0]
    assert score > np.quantile(model.score(background), 0.999)


def test_a_table_is_read_by_the_names_of_its_columns(model, background, features):
    table = pd.DataFrame(background, columns=features)[features[::-1]].assign(other=1.0)
    np.testing.assert_array_equal(model.score(table), model.score(background))
    with pytest.raises(InputError, match="mt2"):
        model.score(table.drop(columns=["mt2"]))


def test_wrong_features_are_refused(model, background):
    with pytest.raises(InputError, match=r"shape \(n, 8\)"):
        model.score(background[:, :5])
    broken = background.copy()
    broken[7, 1] = np.inf
    with pytest.raises(InputError, match="'mll'"):
        model.score(broken)


def test_the_card_says_what_the_model_is(model, trained, features):
    card = model.card
    assert card == json.loads((trained / "card.json").read_text())
    assert model.features == card["features"] == features
    assert (model.name, card["region"], card["preset"]) == ("default-table", "2L", "default")
    assert (card["kind"], card["role"]) == ("network", "model")
    assert trained.parts[-3:] == ("models", "2L", "default-table")
    assert card["trained_on"]["datasets"] == ["1.Zee", "2.ttbar"]
    assert card["trained_on"]["config_hash"] == "c0ffee"
    assert set(card["checksums"]) == {path.name for path in trained.iterdir()} - {"card.json"}
    assert {"keras", "numpy", "python"} <= set(card["versions"])
    assert {"hash", "seeds", "metrics"} <= set(card)
    assert model.score_names == ("mse", "mae")
    for thresholds in (card["thresholds"], card["other_thresholds"]["mae"]):
        assert set(thresholds) == {"1e-1", "1e-2", "1e-3", "1e-4"}
        assert thresholds["1e-1"]["error"] > 0


def test_a_model_is_loaded_once_until_it_is_trained_anew(trained, bundle):
    assert load_model(trained) is load_model(str(trained))
    assert load_model(bundle) is not load_model(trained)


def test_a_tampered_file_is_refused(bundle):
    path = bundle / "scaler.json"
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(FailureError, match=r"scaler\.json .* was changed"):
        load_model(bundle)


def test_a_tampered_card_is_refused(bundle):
    path = bundle / "card.json"
    card = json.loads(path.read_text())
    card["thresholds"]["1e-1"]["score"] += 0.5
    path.write_text(json.dumps(card))
    with pytest.raises(FailureError, match=r"card .* was changed"):
        read_card(bundle)


def test_an_incomplete_bundle_is_refused(bundle):
    (bundle / "model.keras").unlink()
    with pytest.raises(FailureError, match=r"lacks model\.keras"):
        load_model(bundle)


def _change_card(bundle, change):
    """Another card, with a checksum as if it belonged there."""
    card = json.loads((bundle / "card.json").read_text())
    change(card)
    card["checksum"] = checksum_of_json({name: value for name, value in card.items() if name != "checksum"})
    (bundle / "card.json").write_text(json.dumps(card))


def _exchange_network(bundle, network):
    """Another network in a bundle, with checksums as if it belonged there."""
    network.save(bundle / "model.keras")
    checksum = f"xxh128:{xxhash.xxh128_hexdigest((bundle / 'model.keras').read_bytes())}"
    _change_card(bundle, lambda card: card["checksums"].update({"model.keras": checksum}))


def test_a_card_of_the_time_when_there_were_only_networks_is_one_of_a_network(bundle, model, background):
    _change_card(bundle, lambda card: [card.pop(name) for name in ("kind", "role")])
    np.testing.assert_array_equal(load_model(bundle).score(background), model.score(background))


def test_a_kind_of_another_version_is_refused(bundle):
    _change_card(bundle, lambda card: card.update(kind="oracle"))
    with pytest.raises(InputError, match=r"of kind 'oracle', where network, ensemble.* are known"):
        load_model(bundle)


def test_a_network_that_brings_code_of_its_own_is_refused(bundle, model, features):
    keras = pytest.importorskip("keras")
    inputs = keras.Input((len(features),))
    _exchange_network(bundle, keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs)))
    with pytest.raises(FailureError, match=r"cannot be loaded \(.*Lambda.*\): train again") as refusal:
        load_model(bundle)
    assert str(refusal.value).count("\n") == 0


def test_a_network_of_another_shape_is_refused(bundle, model, features):
    keras = pytest.importorskip("keras")
    inputs = keras.Input((len(features),))
    _exchange_network(bundle, keras.Model(inputs, keras.layers.Dense(1)(inputs)))
    with pytest.raises(FailureError, match=r"model\.keras is no network of the 8 features"):
        load_model(bundle)


def test_all_scores_come_at_once_and_the_first_is_the_score(model, background):
    scores = model.scores(background)
    assert list(scores) == ["mse", "mae"]
    np.testing.assert_array_equal(scores["mse"], model.score(background))
    for measures in model.measures(background):
        for name, values in scores.items():
            np.testing.assert_array_equal(measures.scores[name], values[measures.rows])
        mean = np.log10(measures.residuals.mean(axis=1))
        np.testing.assert_allclose(mean, measures.scores["mse"], atol=1e-5)


def test_a_foreign_directory_is_refused(tmp_path, bundle):
    with pytest.raises(InputError, match="run the stage train first"):
        load_model(tmp_path / "nothing")
    (tmp_path / "directory" / "card.json").mkdir(parents=True)
    with pytest.raises(
        FailureError, match=r"cannot read the card of model bundle .*directory \(Is a directory\)"
    ):
        load_model(tmp_path / "directory")
    (bundle / "card.json").write_text(json.dumps({"format": 7}))
    with pytest.raises(InputError, match="no model bundle of format 1"):
        load_model(bundle)
    (bundle / "card.json").write_text("{")
    with pytest.raises(FailureError, match="no valid JSON"):
        load_model(bundle)

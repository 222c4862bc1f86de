import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

from fileset.exceptions import FailureError, InputError
from models.baselines import fit_baselines
from models.bundle import checksum_of_json, load_model, read_card, verified_card
from models.settings import BaselineSettings, TrainingSettings
from models.stream import open_background
from processors.histograms import load_histograms
from processors.settings import REGIONS, ExecutionSettings
from processors.stages.score import score_region
from processors.workers import Workers

ROOT = Path(__file__).parents[2]
ALL = BaselineSettings(trees=20)
SEED = 11
UNIT = TrainingSettings(weighting="unweighted")


@pytest.fixture(scope="module")
def shards(tmp_path_factory, shard_writer, samples):
    return shard_writer(tmp_path_factory.mktemp("run") / "shards" / "2L", samples)


@pytest.fixture(scope="module")
def bundles(shards, tmp_path_factory):
    paths = fit_baselines(
        shards, features="table", settings=ALL, seed=SEED, output=tmp_path_factory.mktemp("fitted")
    )
    return dict(zip(ALL.names, paths, strict=True))


@pytest.fixture(scope="module")
def background(samples, features):
    return np.column_stack([samples["1.Zee"][2][name] for name in features])


def fitted(shards, output, name, *, features="table", **how):
    settings = BaselineSettings(names=(name,), **how.pop("settings", {}))
    (path,) = fit_baselines(shards, features=features, settings=settings, seed=SEED, output=output, **how)
    return load_model(path)


def train_split(shards, columns, weighting="unweighted"):
    return open_background(shards, columns=columns, seed=SEED, weighting=weighting).arrays["train"]


def test_principal_components_are_those_of_scikit_learn(tmp_path, shards, features, background):
    model = fitted(shards, tmp_path, "pca", training=UNIT)
    pca = PCA(0.95).fit(model.scaler.transform(train_split(shards, features).features).astype(np.float64))
    assert model.card["metrics"]["components"] == pca.n_components_ == 3
    scaled = model.scaler.transform(background).astype(np.float64)
    errors = np.square(pca.inverse_transform(pca.transform(scaled)) - scaled)
    np.testing.assert_allclose(model.score(background), np.log10(errors.mean(axis=1)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.residuals(background), errors, rtol=1e-5, atol=1e-10)


def test_the_distance_is_that_of_scikit_learn(tmp_path, shards, features, background):
    columns = features[:4]
    model = fitted(shards, tmp_path, "mahalanobis", features="reduced", training=UNIT)
    scaled = model.scaler.transform(train_split(shards, columns).features).astype(np.float64)
    reference = EmpiricalCovariance().fit(scaled)
    expected = np.log10(reference.mahalanobis(model.scaler.transform(background[:, :4]).astype(np.float64)))
    np.testing.assert_allclose(model.score(background[:, :4]), expected, rtol=0, atol=1e-6)


def test_weights_count_in_the_distance(tmp_path, shards, features, background):
    columns = features[:4]
    model = fitted(shards, tmp_path, "mahalanobis", features="reduced")
    events = train_split(shards, columns, "physical")
    values, weight = events.features.astype(np.float64), events.training_weight.astype(np.float64)
    away = background[:, :4] - np.average(values, axis=0, weights=weight)
    inverse = np.linalg.inv(np.cov(values.T, aweights=weight, ddof=0))
    # The distance does not depend on how inputs are scaled.
    expected = np.log10(np.einsum("ni,ij,nj->n", away, inverse, away))
    np.testing.assert_allclose(model.score(background[:, :4]), expected, rtol=0, atol=1e-4)


def test_directions_in_which_inputs_depend_on_one_another_are_left_out(bundles, features):
    model = load_model(bundles["mahalanobis"])
    assert "never_filled" in features
    assert model.card["metrics"]["rank"] == len(features) - 1


def test_the_forest_is_that_of_scikit_learn(bundles, shards, features, background):
    model = load_model(bundles["isolation-forest"])
    events = train_split(shards, features, "physical")
    reference = IsolationForest(n_estimators=20, max_samples=256, random_state=SEED)
    reference.fit(
        model.scaler.transform(events.features), sample_weight=events.training_weight.astype(np.float64)
    )
    expected = -reference.score_samples(model.scaler.transform(background))
    np.testing.assert_allclose(model.score(background), expected, rtol=0, atol=1e-6)


def test_the_forest_takes_at_most_so_many_events(tmp_path, shards):
    model = fitted(shards, tmp_path, "isolation-forest", settings={"max_events": 300, "trees": 5})
    assert model.card["metrics"]["events"] == 300


def test_the_largest_tail_is_that_of_the_rarest_single_variable(tmp_path, shards):
    model = fitted(shards, tmp_path, "largest-tail", training=UNIT)
    assert model.features == ["met_et", "mll"]
    events = train_split(shards, model.features).features
    tails = np.array([(events[:, [i]] >= events[:, i]).mean(axis=0) for i in (0, 1)])
    inside = tails.min(axis=0) > 0.03  # further out an exponential goes on, and knots are 0.2 % apart
    expected = -np.log(tails.min(axis=0))
    np.testing.assert_allclose(model.score(events)[inside], expected[inside], atol=0.08)


def test_the_tail_sum_is_conditional_on_what_is_there(tmp_path, shard_writer, event_maker):
    events = event_maker(3000, channel=1, seed=1)
    absent = np.random.default_rng(3).random(3000) < 0.9
    events["lep2_pt"] = np.where(absent, 0, events["lep2_pt"]).astype(np.float32)
    manifest = shard_writer(tmp_path / "shards" / "2L", {"1.Zee": ("background", "Zjets", events)})
    model = fitted(manifest, tmp_path, "tail-sum", settings={"terms": 2})
    inputs = np.column_stack([events[name] for name in model.features])
    residuals = model.residuals(inputs)
    at = model.features.index("lep2_pt")
    assert (residuals[absent, at] == 0).all()
    median = np.median(inputs[~absent, at])
    tail = model.scaler.transform(np.where(np.arange(inputs.shape[1]) == at, median, 0)[np.newaxis])[0, at]
    assert tail == pytest.approx(np.log(2), abs=0.15)  # not ln 20, of all events
    largest = np.sort(model.scaler.transform(inputs), axis=1)[:, -2:]
    np.testing.assert_allclose(model.score(inputs), largest.mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("name", ALL.names)
def test_an_event_scores_the_same_alone_and_among_many(bundles, samples, name):
    model = load_model(bundles[name])
    events = np.column_stack([samples["1.Zee"][2][column] for column in model.features])
    many = np.tile(events, (34, 1))[:100_000]
    together = model.score(many)
    assert together.dtype == np.float32
    alone = np.concatenate([model.score(many[index : index + 1]) for index in range(40)])
    np.testing.assert_allclose(alone, together[:40], rtol=0, atol=1e-6)
    assert model.score(many[:0]).shape == (0,)


@pytest.mark.parametrize("name", ALL.names)
def test_residuals_are_parts_of_what_the_score_is_made_of(bundles, samples, name):
    model = load_model(bundles[name])
    events = np.column_stack([samples["3.susy"][2][column] for column in model.features])
    residuals, score = model.residuals(events), model.score(events)
    assert (residuals >= 0).all()
    whole = {"pca": residuals.mean(axis=1), "mahalanobis": residuals.sum(axis=1)}
    if name in whole:
        np.testing.assert_allclose(np.log10(whole[name]), score, atol=1e-5)
    else:
        np.testing.assert_allclose(residuals.sum(axis=1), score, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in ALL.names if name != "pca"])
def test_hard_signal_scores_above_the_threshold_of_the_card(bundles, samples, name):
    model = load_model(bundles[name])
    kinds = [samples[key][2] for key in ("1.Zee", "3.susy")]
    background, signal = (
        model.score(np.column_stack([events[column] for column in model.features])) for events in kinds
    )
    cut = model.card["thresholds"]["1e-1"]["score"]
    assert (background > cut).mean() == pytest.approx(0.1, abs=0.03)
    assert (signal > cut).mean() > 0.7


def test_principal_components_see_what_leaves_their_plane_only(bundles, samples, features):
    model = load_model(bundles["pca"])
    cut = model.card["thresholds"]["1e-1"]["score"]
    signal = np.column_stack([samples["3.susy"][2][name] for name in features])
    assert (model.score(signal) > cut).mean() < 0.3  # ten times as hard, but as background would be
    signal[:, features.index("mt2")] = 0
    assert (model.score(signal) > cut).mean() > 0.5


def test_cards_say_what_the_bundles_are(bundles):
    for name, path in bundles.items():
        card = verified_card(path)
        assert (card["kind"], card["role"], card["method"]) == ("baseline", "baseline", name)
        of = "variables" if name == "largest-tail" else "table"
        assert path.parts[-3:] == ("models", "2L", f"baseline-{name}-{of}")
        assert card["name"] == path.name
        assert card["scores"] == [name]
        assert card["trained_on"]["datasets"] == ["1.Zee", "2.ttbar"]
        assert {entry.name for entry in path.iterdir()} == {*card["checksums"], "card.json"}


def test_a_baseline_has_no_network(bundles):
    model = load_model(bundles["pca"])
    assert model.networks == ()
    with pytest.raises(InputError, match="is a baseline and has no network"):
        _ = model.network


def test_only_what_has_changed_is_fitted_again(tmp_path, shard_writer, samples):
    def stamps(settings=ALL, seed=SEED, **changed):
        manifest = shard_writer(tmp_path / "shards" / "2L", samples | changed)
        paths = fit_baselines(manifest, features="table", settings=settings, seed=seed, output=tmp_path)
        return [(path / "card.json").stat().st_mtime_ns for path in paths]

    def heavier(name):
        kind, group, events = samples[name]
        return {name: (kind, group, events | {"weight": 2 * events["weight"]})}

    first = stamps()
    assert stamps() == first
    assert stamps(**heavier("3.susy")) == first
    again = stamps(ALL.model_copy(update={"terms": 3}))
    assert again[:-1] == first[:-1]
    assert again[-1] > first[-1]
    assert all(new > old for new, old in zip(stamps(**heavier("2.ttbar")), again, strict=True))


def test_data_may_be_learnt_from_as_a_model_does(tmp_path, shards):
    training = TrainingSettings(train_on="data", data_fraction=0.6)
    card = fitted(shards, tmp_path, "pca", training=training).card
    assert card["trained_on"]["kind"] == "data"
    assert card["trained_on"]["fractions"] == pytest.approx([0.48, 0.12, 0.4])


def test_as_much_is_held_out_as_of_the_model(tmp_path, shards):
    fractions = {}
    for held_out in (0.2, 0.5):
        training = TrainingSettings(test_fraction=held_out)
        card = fitted(shards, tmp_path, "pca", training=training).card
        fractions[card["hash"]] = card["trained_on"]["fractions"]
    assert list(fractions.values()) == [pytest.approx([0.64, 0.16, 0.2]), pytest.approx([0.4, 0.1, 0.5])]


def test_a_feature_set_that_is_not_there_is_refused(tmp_path, shards):
    with pytest.raises(InputError, match="no feature set 'rmm'"):
        fitted(shards, tmp_path, "pca", features="rmm")


def test_scoring_needs_no_keras(bundles):
    code = "import sys; from models.bundle import load_model; [load_model(p) for p in sys.argv[1:]]; "
    code += "sys.exit('keras' in sys.modules or 'sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, *map(str, bundles.values())], cwd=ROOT, check=True)


@pytest.fixture
def bundle(bundles, tmp_path):
    """A copy of a bundle that a test may break."""
    return shutil.copytree(bundles["pca"], tmp_path / "bundle")


def exchange(bundle, **arrays):
    """Other arrays in a bundle, with checksums as if they belonged there."""
    np.savez(bundle / "parameters.npz", **arrays)
    seal(bundle)


def seal(bundle):
    from processors.files import checksum  # noqa: PLC0415

    card = json.loads((bundle / "card.json").read_text())
    card["checksums"]["parameters.npz"] = checksum(bundle / "parameters.npz")
    card["checksum"] = checksum_of_json({name: value for name, value in card.items() if name != "checksum"})
    (bundle / "card.json").write_text(json.dumps(card))


def test_a_tampered_or_incomplete_bundle_is_refused(bundle):
    content = (bundle / "parameters.npz").read_bytes()
    (bundle / "parameters.npz").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FailureError, match=r"parameters\.npz .* was changed"):
        load_model(bundle)
    (bundle / "parameters.npz").unlink()
    with pytest.raises(FailureError, match=r"lacks parameters\.npz"):
        load_model(bundle)


def test_arrays_that_do_not_belong_together_are_refused(bundle):
    exchange(bundle, mean=np.zeros(8))
    with pytest.raises(FailureError, match="does not hold what pca needs"):
        load_model(bundle)
    exchange(bundle, mean=np.zeros(8), components=np.zeros((2, 5)))
    with pytest.raises(FailureError, match=r"have shapes .* where .* are needed"):
        load_model(bundle)
    exchange(bundle, mean=np.zeros(3), components=np.zeros((2, 3)))
    with pytest.raises(FailureError, match="is of 3 features, its card of 8"):
        load_model(bundle)
    (bundle / "parameters.npz").write_bytes(b"no archive")
    seal(bundle)
    with pytest.raises(FailureError, match="cannot be loaded"):
        load_model(bundle)


class _Code:
    def __reduce__(self):
        return print, ("this was run",)


def test_arrays_that_bring_code_are_refused(bundle, capfd):
    exchange(bundle, mean=np.array([_Code()], dtype=object), components=np.zeros((2, 8)))
    with pytest.raises(FailureError, match="Object arrays cannot be loaded"):
        load_model(bundle)
    assert "this was run" not in capfd.readouterr().out


def test_the_score_stage_takes_a_baseline_as_any_model(tmp_path, shard_writer, samples):
    manifest = shard_writer(tmp_path / "shards" / "2L", samples)
    content = json.loads(manifest.read_text()) | {"variations": ["nominal"]}
    manifest.write_text(json.dumps(content))
    paths = fit_baselines(manifest, features="table", settings=ALL, seed=SEED, output=tmp_path)
    for path in paths:
        with Workers(ExecutionSettings()) as workers:
            scored = score_region(
                name="2L",
                region=REGIONS["2L"],
                model=path,
                model_name=path.name,
                loader="models.bundle:load_model",
                seed=SEED,
                workers=workers,
                output=tmp_path,
                friends=False,
            )
        assert scored["scores"] == read_card(path)["scores"]
        assert scored["role"] == "baseline"
        folder = tmp_path / "scores" / "2L" / path.name
        assert sum(shard["rows"] for shard in scored["shards"]) == sum(
            len(events["weight"]) for _, _, events in samples.values()
        )
        model = load_model(path)
        table = pq.read_table(tmp_path / "shards" / "2L" / "3.susy" / "a0.parquet")
        expected = model.score(np.column_stack([table[name] for name in model.features]))
        found = pq.read_table(folder / "3.susy" / "a0.parquet")["score"].to_numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        histogram = load_histograms(folder / "histograms.json")[f"2L/score/{path.name}"]
        assert histogram.sum(flow=True).value == pytest.approx(
            sum(events["weight"].sum() for _, _, events in samples.values())
        )
        assert histogram.sum(flow=False).value > 0.99 * histogram.sum(flow=True).value

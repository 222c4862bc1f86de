import json

import numpy as np
import pytest
from sklearn.decomposition import PCA

from fileset.exceptions import FailureError, InputError
from models.bundle import load_model
from models.settings import TrainingSettings
from models.stream import open_background
from models.training import train

QUICK = TrainingSettings(epochs=2, min_steps=4)
SEED = 11


def _weights(bundle):
    return load_model(bundle).network.get_weights()


def test_a_linear_autoencoder_finds_the_error_of_principal_components(tmp_path, manifest, features):
    settings = TrainingSettings(
        encoder=(2,),
        encoder_activations=("linear",),
        decoder=(),
        decoder_activations=("linear",),
        weighting="unweighted",
        learning_rate=0.1,
        epochs=80,
        min_steps=16,
        patience=None,
    )
    bundle = train(manifest, features="table", settings=settings, seed=SEED, output=tmp_path)
    model = load_model(bundle)
    train_split = open_background(manifest, columns=features, seed=SEED).arrays["train"].features
    scaled = model.scaler.transform(train_split)
    pca = PCA(2).fit(scaled)
    expected = np.mean((pca.inverse_transform(pca.transform(scaled)) - scaled) ** 2)
    assert np.mean(model.residuals(train_split)) == pytest.approx(expected, rel=0.01)


def test_the_same_seed_gives_the_same_model_however_the_shards_were_cut(tmp_path, shard_writer, samples):
    bundles = [
        train(
            shard_writer(tmp_path / f"shards{index}", samples, **cut),
            features="table",
            settings=QUICK,
            seed=SEED,
            output=tmp_path / str(index),
        )
        for index, cut in enumerate(({"chunk": 700}, {"chunk": 111, "reverse": True}))
    ]
    first, second = (_weights(bundle) for bundle in bundles)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_model(tmp_path, manifest):
    first, second = (
        train(manifest, features="table", settings=QUICK, seed=seed, output=tmp_path / str(seed))
        for seed in (1, 2)
    )
    assert not np.array_equal(_weights(first)[0], _weights(second)[0])


def test_a_bundle_is_used_again_until_what_it_depends_on_changes(tmp_path, manifest):
    def bundle(settings=QUICK, seed=SEED):
        return train(manifest, features="table", settings=settings, seed=seed, output=tmp_path, name="m")

    first = bundle()
    stamp = (first / "card.json").stat().st_mtime_ns
    assert bundle() == first
    assert (first / "card.json").stat().st_mtime_ns == stamp
    for change in ({"settings": QUICK.model_copy(update={"learning_rate": 0.01})}, {"seed": 5}):
        assert bundle(**change) == first
        changed = (first / "card.json").stat().st_mtime_ns
        assert changed != stamp
        stamp = changed
    (first / "scaler.json").write_text("{}")
    bundle(seed=5)
    assert (first / "card.json").stat().st_mtime_ns != stamp
    assert [path.name for path in first.parent.iterdir()] == ["m"]


def test_losses_fall_below_the_mean_predictor_and_progress_is_told(tmp_path, manifest):
    seen = []
    settings = TrainingSettings(epochs=5)
    bundle = train(
        manifest,
        features="table",
        settings=settings,
        seed=SEED,
        output=tmp_path,
        progress=lambda *now: seen.append(now),
    )
    history = json.loads((bundle / "history.json").read_text())
    assert seen == [
        (epoch + 1, 5, loss, val_loss)
        for epoch, (loss, val_loss) in enumerate(zip(history["loss"], history["val_loss"], strict=True))
    ]
    # Seven of eight standardised columns vary: predicting the mean costs 7/8.
    assert history["mean_predictor_loss"] == pytest.approx(7 / 8, rel=1e-4)
    assert history["val_loss"][-1] < 0.5 * history["val_mean_predictor_loss"]
    assert not history["collapsed"]


def test_a_model_that_only_predicts_the_mean_is_marked_as_collapsed(tmp_path, manifest, caplog):
    settings = TrainingSettings(preset="report-minmax", epochs=3)
    bundle = train(manifest, features="table", settings=settings, seed=SEED, output=tmp_path)
    card = load_model(bundle).card
    assert card["collapsed"]
    assert json.loads((bundle / "history.json").read_text())["collapsed"]
    assert "collapsed" in caplog.text
    strict = settings.model_copy(update={"fail_on_collapse": True})
    with pytest.raises(FailureError, match="report-minmax-table of region 2L collapsed"):
        train(manifest, features="table", settings=strict, seed=SEED, output=tmp_path)


def test_the_best_epoch_is_kept_and_patience_ends_training(tmp_path, manifest):
    settings = TrainingSettings(
        epochs=40, patience=2, learning_rate=0.2, learning_rate_schedule="constant", batch_size=128
    )
    bundle = train(manifest, features="table", settings=settings, seed=SEED, output=tmp_path)
    metrics = load_model(bundle).card["metrics"]
    val_loss = json.loads((bundle / "history.json").read_text())["val_loss"]
    assert metrics["epochs"] == len(val_loss) == metrics["best_epoch"] + 2 < 40
    assert metrics["val_loss"] == min(val_loss)


def test_the_kept_model_has_the_validation_loss_that_its_card_states(trained, features):
    model = load_model(trained)
    manifest = trained.parents[2] / "shards" / "2L" / "manifest.json"
    validation = open_background(manifest, columns=features, seed=SEED).arrays["validation"]
    errors = model.residuals(validation.features).mean(axis=1)
    expected = np.average(errors, weights=validation.training_weight)
    assert model.card["metrics"]["val_loss"] == pytest.approx(expected, rel=1e-4)


def test_thresholds_have_the_stated_efficiency_on_held_out_background(trained, features):
    model = load_model(trained)
    manifest = trained.parents[2] / "shards" / "2L" / "manifest.json"
    sample = open_background(manifest, columns=features, seed=SEED)
    scores, weights = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (model.score(sample.arrays[s].features), sample.arrays[s].weight)
                for s in ("validation", "test")
            ),
            strict=True,
        )
    )
    thresholds = model.card["thresholds"]
    passing = weights[scores >= thresholds["1e-1"]["score"]].sum() / weights.sum()
    assert passing == pytest.approx(0.1, abs=0.002)
    assert 0 < thresholds["1e-1"]["error"] < 0.2
    # 1 600 held-out events say nothing about one in ten thousand.
    assert thresholds["1e-4"]["score"] is None
    assert thresholds["1e-4"]["n_eff"] < 10


def test_training_streams_what_does_not_fit_into_memory(tmp_path, manifest, monkeypatch):
    monkeypatch.setattr("models.stream._in_memory", None)  # would fail if it were called
    streamed = TrainingSettings(epochs=4).model_copy(update={"memory_mb": 0})
    bundles = [
        train(manifest, features="table", settings=streamed, seed=SEED, output=tmp_path / str(index))
        for index in range(2)
    ]
    first, second = (_weights(bundle) for bundle in bundles)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not load_model(bundles[0]).card["collapsed"]


@pytest.mark.parametrize("preset", ["upper-tail", "thesis-vae-small", "thesis-ae-small"])
def test_other_members_of_the_family_train_and_load(tmp_path, manifest, features, samples, preset):
    settings = TrainingSettings(preset=preset, epochs=2)
    model = load_model(train(manifest, features="table", settings=settings, seed=SEED, output=tmp_path))
    signal = np.column_stack([samples["3.susy"][2][name] for name in features])
    assert np.isfinite(model.score(signal)).all()


def test_a_loss_that_is_not_finite_ends_training(tmp_path, manifest):
    settings = TrainingSettings(preset="thesis-ae-small", learning_rate=1e30, epochs=2)
    with pytest.raises(FailureError, match="lower learning_rate"):
        train(manifest, features="table", settings=settings, seed=SEED, output=tmp_path)
    assert list((tmp_path / "models").rglob("*")) == []


def test_a_model_is_named_like_a_directory(tmp_path, manifest):
    with pytest.raises(InputError, match="cannot be the name"):
        train(manifest, features="table", settings=QUICK, seed=SEED, output=tmp_path, name="../m")


def test_too_few_events_are_an_error_of_the_input(tmp_path, shard_writer, event_maker):
    manifest = shard_writer(tmp_path, {"1.Zee": ("background", "Zjets", event_maker(1, channel=1, seed=1))})
    with pytest.raises(InputError, match="give a larger fileset"):
        train(manifest, features="table", settings=QUICK, seed=SEED, output=tmp_path)

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from fileset.exceptions import FailureError, InputError
from models.bundle import load_model
from models.fitting import learning_rate
from models.settings import TrainingSettings
from models.stream import open_background
from models.training import train, training_hash
from processors.shards import read_manifest

ROOT = Path(__file__).parents[2]

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
    _assert_same(*(_weights(bundle) for bundle in bundles))


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


def test_a_model_that_was_given_a_single_epoch_may_only_not_have_been_trained_long_enough(tmp_path, manifest):
    settings = TrainingSettings(preset="report-minmax", epochs=1, fail_on_collapse=True)
    with pytest.raises(
        FailureError, match=r"collapsed or was not trained long enough: .*; train for more epochs"
    ):
        train(manifest, features="table", settings=settings, seed=SEED, output=tmp_path)


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


def test_a_sample_that_does_not_fit_into_memory_trains_the_same_model_to_the_bit(
    tmp_path, manifest, shard_writer, samples, monkeypatch
):
    in_memory = train(manifest, features="table", settings=QUICK, seed=SEED, output=tmp_path / "memory")
    monkeypatch.setattr("models.stream._in_memory", None)  # would fail if it were called
    cut = shard_writer(tmp_path / "shards" / "2L", samples, chunk=311, reverse=True)
    streamed = QUICK.model_copy(update={"memory_mb": 0, "scratch": tmp_path / "scratch"})
    on_disk = train(cut, features="table", settings=streamed, seed=SEED, output=tmp_path / "disk")
    _assert_same(_weights(in_memory), _weights(on_disk))
    for file in ("scaler.json", "history.json"):
        assert (in_memory / file).read_bytes() == (on_disk / file).read_bytes()
    cards = [json.loads((bundle / "card.json").read_text()) for bundle in (in_memory, on_disk)]
    assert cards[0]["thresholds"] == cards[1]["thresholds"]
    assert list((tmp_path / "scratch").iterdir()) == []


def _assert_same(weights, others):
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)


class _Stop(BaseException):
    pass


def _stop_after(last):
    def progress(epoch, *_):
        if epoch == last:
            raise _Stop

    return progress


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate_schedule": "plateau", "plateau_epochs": 1, "learning_rate": 0.1},
        {"memory_mb": 0},
        {"patience": 1, "learning_rate": 0.3, "learning_rate_schedule": "constant", "epochs": 20},
    ],
    ids=["plateau", "on disk", "patience"],
)
def test_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path, manifest, change):
    settings = TrainingSettings(epochs=4, min_steps=4).model_copy(update=change)
    arguments = {"features": "table", "settings": settings, "seed": SEED, "name": "m"}
    whole = train(manifest, output=tmp_path / "whole", **arguments)
    with pytest.raises(_Stop):
        train(manifest, output=tmp_path / "parts", progress=_stop_after(2), **arguments)
    epochs = []
    parts = train(
        manifest, output=tmp_path / "parts", progress=lambda epoch, *_: epochs.append(epoch), **arguments
    )
    assert epochs[0] == 3
    _assert_same(_weights(whole), _weights(parts))
    assert (whole / "history.json").read_bytes() == (parts / "history.json").read_bytes()
    assert [path.name for path in parts.parent.iterdir()] == ["m"]


KILLED = """
import os, signal, sys
from pathlib import Path
from models import stream
from models.settings import TrainingSettings
from models.training import train

begun = []

def dying(parts):
    def epoch(self, *arguments):
        begun.append(None)
        for number, part in enumerate(parts(self, *arguments)):
            if len(begun) == 3 and number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield part
    return epoch

# On a device the order of events alone goes through an epoch, elsewhere the events.
stream.MemorySample.windows = dying(stream.MemorySample.windows)
stream.MemorySample.orders = dying(stream.MemorySample.orders)
stream.CHUNK_ROWS = 300
settings = TrainingSettings(**{settings})
train(Path("{manifest}"), features="table", settings=settings, seed={seed}, output=Path("{output}"), name="m")
"""


def test_training_killed_in_the_middle_of_an_epoch_ends_with_the_weights_of_one_that_was_not(
    tmp_path, manifest, monkeypatch
):
    # The random draws of a VAE go on where they were, too.
    given = {"preset": "thesis-vae-small", "epochs": 5, "batch_size": 64}
    script = KILLED.format(settings=given, manifest=manifest, output=tmp_path / "killed", seed=SEED)
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    left = tmp_path / "killed" / "models" / "2L"
    assert [path.name for path in left.iterdir()] == [".m.checkpoint.npz"]
    monkeypatch.setattr("models.stream.CHUNK_ROWS", 300)
    arguments = {"features": "table", "settings": TrainingSettings(**given), "seed": SEED, "name": "m"}
    epochs = []
    again = train(
        manifest, output=tmp_path / "killed", progress=lambda epoch, *_: epochs.append(epoch), **arguments
    )
    assert epochs == [3, 4, 5]
    never = train(manifest, output=tmp_path / "never", **arguments)
    _assert_same(_weights(again), _weights(never))
    assert (again / "history.json").read_bytes() == (never / "history.json").read_bytes()


def test_what_another_configuration_left_behind_is_ignored(tmp_path, manifest):
    arguments = {"features": "table", "seed": SEED, "name": "m"}
    with pytest.raises(_Stop):
        train(manifest, output=tmp_path, settings=QUICK, progress=_stop_after(1), **arguments)
    settings = QUICK.model_copy(update={"learning_rate": 0.01})
    after = train(manifest, output=tmp_path, settings=settings, **arguments)
    fresh = train(manifest, output=tmp_path / "fresh", settings=settings, **arguments)
    _assert_same(_weights(after), _weights(fresh))
    assert [path.name for path in after.parent.iterdir()] == ["m"]


def test_a_changed_signal_leaves_the_model_alone_and_a_changed_background_does_not(
    tmp_path, shard_writer, samples, caplog
):
    def trained(**changed):
        manifest = shard_writer(tmp_path / "shards" / "2L", samples | changed)
        content = json.loads(manifest.read_text())
        content["config_hash"] = repr(sorted(changed))  # as the selection does: a hash of all that it did
        manifest.write_text(json.dumps(content))
        bundle = train(manifest, features="table", settings=QUICK, seed=SEED, output=tmp_path, name="m")
        return (bundle / "card.json").stat().st_mtime_ns

    def heavier(name):
        kind, group, events = samples[name]
        return {name: (kind, group, events | {"weight": 2 * events["weight"]})}

    caplog.set_level("INFO", logger="models.training")
    first = trained()
    assert trained(**heavier("3.susy")) == first
    assert trained(**heavier("data_A")) == first
    assert "trained again" not in caplog.text
    assert trained(**heavier("2.ttbar")) > first
    assert "was trained with other settings, events or rules: it is trained again" in caplog.text


def test_settings_that_change_no_number_do_not_train_again(manifest, monkeypatch):
    content = read_manifest(manifest)

    def digest(**change):
        settings = QUICK.model_copy(update=change)
        return training_hash(content, columns=["mll"], settings=settings, seed=SEED)

    assert digest() == digest(memory_mb=1) == digest(scratch="elsewhere") == digest(fail_on_collapse=True)
    assert len({digest(), digest(max_train_events=100), digest(train_on="data"), digest(xla="on")}) == 4
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    by_default = digest()
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert digest() == by_default
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert digest() != by_default, "the other backend draws other random numbers"
    monkeypatch.delenv("KERAS_BACKEND")
    with monkeypatch.context() as patch:
        patch.setattr("models.training.SCALER_RULE", -1)
        assert digest() != by_default, "the same events are scaled otherwise"
    monkeypatch.setattr("models.training.FIT_RULE", 1)
    assert digest() != by_default, "another epoch was the best when a part of the events validated"


def test_a_model_can_learn_from_a_part_of_the_data_and_says_what_it_has_not_seen(tmp_path, manifest, samples):
    settings = QUICK.model_copy(update={"train_on": "data", "data_fraction": 0.6})
    card = load_model(train(manifest, features="table", settings=settings, seed=SEED, output=tmp_path)).card
    trained_on = card["trained_on"]
    assert trained_on["kind"] == "data"
    assert trained_on["datasets"] == ["data_A"]
    assert trained_on["fractions"] == pytest.approx([0.48, 0.12, 0.4])
    n = len(samples["data_A"][2]["weight"])
    assert trained_on["rows"]["train"] == pytest.approx(0.48 * n, abs=40)
    assert trained_on["rows"]["test"] == 0
    assert "held out" in trained_on["blinding"]


def test_a_rate_is_halved_whenever_nothing_was_gained_for_a_while():
    settings = TrainingSettings(learning_rate=0.8, learning_rate_schedule="plateau", plateau_epochs=2)
    objective = [5, 4, 4, 4.5, 3, 3, 3, 3, 3]
    rates = [learning_rate(settings, objective[:epochs]) for epochs in range(len(objective) + 1)]
    assert rates == [0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.1]


def test_steps_compiled_with_xla_learn_the_same(tmp_path, manifest):
    losses = [
        json.loads((train(
            manifest,
            features="table",
            settings=QUICK.model_copy(update={"xla": xla}),
            seed=SEED,
            output=tmp_path / xla,
        ) / "history.json").read_text())["val_loss"]
        for xla in ("on", "off")
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


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

import json
import shutil

import numpy as np
import pytest

from fileset.exceptions import FailureError
from models.bundle import load_model
from models.settings import TrainingSettings
from models.training import train

ONE = TrainingSettings(epochs=3, min_steps=4)
THREE = ONE.model_copy(update={"members": 3})
SEED = 11


@pytest.fixture(scope="module")
def shards(tmp_path_factory, shard_writer, samples):
    return shard_writer(tmp_path_factory.mktemp("shards") / "2L", samples)


@pytest.fixture(scope="module")
def three(tmp_path_factory, shards):
    output = tmp_path_factory.mktemp("three")
    return train(shards, features="table", settings=THREE, seed=SEED, output=output, name="m")


@pytest.fixture(scope="module")
def model(three):
    return load_model(three)


@pytest.fixture(scope="module")
def background(samples, features):
    return np.column_stack([samples["1.Zee"][2][name] for name in features])


def test_the_score_is_log10_of_the_mean_over_members_of_what_theirs_is_the_log10_of(model, background):
    scores = model.scores(background)
    assert list(scores) == ["mse", "mae", "member1", "member2", "member3"]
    scaled = model.scaler.transform(background)
    errors = [np.asarray(network(scaled)) - scaled for network in model.networks]
    for name, of in (("mse", np.square), ("mae", np.abs)):
        expected = np.log10(np.mean([of(error).mean(axis=1) for error in errors], axis=0))
        np.testing.assert_allclose(scores[name], expected, atol=1e-4)
    for number, error in enumerate(errors, start=1):
        own = np.log10(np.square(error).mean(axis=1))
        np.testing.assert_allclose(scores[f"member{number}"], own, atol=1e-4)
    np.testing.assert_allclose(
        model.residuals(background), np.mean(np.square(errors), axis=0), rtol=1e-3, atol=1e-6
    )


def test_an_event_scores_the_same_alone_and_among_many(model, background):
    many = np.tile(background, (34, 1))[:100_000]
    together = model.scores(many)
    assert all(values.shape == (100_000,) for values in together.values())
    for index in range(10):
        for name, value in model.scores(many[index : index + 1]).items():
            np.testing.assert_allclose(value, together[name][index], rtol=0, atol=1e-6)


def test_members_differ_by_their_seeds_and_the_first_is_the_model_of_a_single_one(
    tmp_path, shards, model, background
):
    alone = load_model(train(shards, features="table", settings=ONE, seed=SEED, output=tmp_path, name="m"))
    scores = model.scores(background)
    np.testing.assert_array_equal(alone.score(background), scores["member1"])
    assert alone.card["kind"] == "network"
    assert alone.score_names == ("mse", "mae")
    spread = np.std([scores[f"member{number}"] for number in (1, 2, 3)], axis=0)
    assert np.median(spread) > 0.01
    assert [member["seed"] for member in model.card["members"]] == [11, 12, 13]
    assert model.card["seeds"]["split"] == alone.card["seeds"]["split"] == SEED


def test_the_card_has_thresholds_of_the_ensemble_and_figures_of_each_member(three, model):
    card = model.card
    assert (card["kind"], card["role"]) == ("ensemble", "model")
    assert set(card["other_thresholds"]) == {"mae", "member1", "member2", "member3"}
    held_out = card["thresholds"]["1e-1"]
    own = [card["other_thresholds"][f"member{number}"]["1e-1"]["score"] for number in (1, 2, 3)]
    assert min(own) - 0.1 < held_out["score"] < max(own) + 0.1
    losses = [member["metrics"]["val_loss"] for member in card["members"]]
    assert card["metrics"]["val_loss"] == pytest.approx(np.mean(losses))
    assert not card["collapsed"]
    history = json.loads((three / "history.json").read_text())
    assert [min(member["val_loss"]) for member in history["members"]] == pytest.approx(losses)
    assert {path.name for path in three.iterdir()} == {*card["checksums"], "card.json"}
    assert {"member1.keras", "member2.keras", "member3.keras"} <= set(card["checksums"])


def test_a_member_that_is_missing_or_was_exchanged_is_refused(tmp_path, three):
    incomplete = shutil.copytree(three, tmp_path / "incomplete")
    (incomplete / "member2.keras").unlink()
    with pytest.raises(FailureError, match=r"lacks member2\.keras"):
        load_model(incomplete)
    exchanged = shutil.copytree(three, tmp_path / "exchanged")
    shutil.copy(exchanged / "member1.keras", exchanged / "member2.keras")
    with pytest.raises(FailureError, match=r"member2\.keras .* was changed"):
        load_model(exchanged)


class _Stop(BaseException):
    pass


def test_training_stopped_in_the_third_member_keeps_the_first_two(tmp_path, shards, model):
    def stop(epoch, *_):
        if epoch == 2 * THREE.epochs + 1:
            raise _Stop

    arguments = {"features": "table", "settings": THREE, "seed": SEED, "output": tmp_path, "name": "m"}
    with pytest.raises(_Stop):
        train(shards, progress=stop, **arguments)
    left = {path.name for path in (tmp_path / "models" / "2L").iterdir()}
    assert left == {f".m.checkpoint{number}.npz" for number in (1, 2, 3)}
    epochs = []
    again = train(shards, progress=lambda epoch, *_: epochs.append(epoch), **arguments)
    assert epochs == [2 * THREE.epochs + 2, 2 * THREE.epochs + 3]
    for network, whole in zip(load_model(again).networks, model.networks, strict=True):
        for one, other in zip(network.get_weights(), whole.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    assert [path.name for path in again.parent.iterdir()] == ["m"]


def test_a_collapsed_member_is_named(tmp_path, shards, caplog):
    # A penalty on hidden outputs that leaves nothing but the mean.
    settings = THREE.model_copy(update={"members": 2, "activity_l2": 1e4, "epochs": 1})
    with caplog.at_level("WARNING"):
        bundle = train(shards, features="table", settings=settings, seed=SEED, output=tmp_path, name="m")
    card = load_model(bundle).card
    assert card["collapsed"]
    assert all(member["collapsed"] for member in card["members"])
    assert "member 2 of model m of region 2L collapsed" in caplog.text
    with pytest.raises(FailureError, match="model m of region 2L collapsed"):
        train(
            shards,
            features="table",
            settings=settings.model_copy(update={"fail_on_collapse": True}),
            seed=SEED,
            output=tmp_path,
            name="m",
        )


def test_another_number_of_members_is_another_model(tmp_path, shards, three, background):
    copied = tmp_path / "models" / "2L" / "m"
    shutil.copytree(three, copied)
    stamp = (copied / "card.json").stat().st_mtime_ns
    arguments = {"features": "table", "seed": SEED, "output": tmp_path, "name": "m"}
    train(shards, settings=THREE, **arguments)
    assert (copied / "card.json").stat().st_mtime_ns == stamp
    train(shards, settings=ONE.model_copy(update={"epochs": 1}), **arguments)
    assert load_model(copied).card["kind"] == "network"
    assert not (copied / "member1.keras").exists()

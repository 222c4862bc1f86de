"""What a physicist would ask of the networks before believing a score."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.decomposition import PCA

from models import backend
from models.bundle import load_model
from models.settings import TrainingSettings
from models.training import train
from processors.split import split_of

backend.start()
keras = pytest.importorskip("keras")

from models.autoencoder import build  # noqa: E402

COLUMNS = ["met_et", "mll", "mt2", "ht"]  # the feature set "reduced" of the shards made for tests
LINEAR = {
    "encoder": (2,),
    "encoder_activations": ("linear",),
    "decoder": (),
    "decoder_activations": ("linear",),
}
SMALL_VAE = {
    "kind": "vae",
    "encoder": (12, 2),
    "encoder_activations": ("tanh", "linear"),
    "decoder": (12,),
    "decoder_activations": ("tanh", "linear"),
    "beta": 0.1,
}


def _splits(events):
    identity = (events[name] for name in ("channelNumber", "runNumber", "eventNumber"))
    return split_of(*identity, seed=1)


def _features(events, columns=COLUMNS):
    return np.column_stack([events[name] for name in columns])


def test_a_linear_autoencoder_recovers_the_error_of_principal_components(tmp_path, shard_writer, event_maker):
    n = 20_000
    events = event_maker(n, channel=1, seed=2)
    rng = np.random.default_rng(2)
    mixed = rng.normal(size=(n, 4)) @ np.array([[3, 2, 2, 1], [1, -2, 1, 2], [0, 1, 0.5, 1], [0.5, 0, 1, 0]])
    events |= {name: 100 + mixed[:, column].astype(np.float32) for column, name in enumerate(COLUMNS)}
    events["weight"] = np.ones(n)
    manifest = shard_writer(tmp_path / "shards" / "2L", {"1.Zee": ("background", "Zjets", events)}, chunk=n)
    settings = TrainingSettings(**LINEAR, learning_rate=0.05, epochs=60, patience=None, min_steps=12)
    model = load_model(train(manifest, features="reduced", settings=settings, seed=1, output=tmp_path))
    split = _splits(events)
    scaled = model.scaler.transform(_features(events))
    components = PCA(n_components=2).fit(scaled[split == 0])
    for part in (0, 2):  # trained on, and never seen
        own = scaled[split == part]
        expected = np.mean((components.inverse_transform(components.transform(own)) - own) ** 2)
        found = model.residuals(_features(events)[split == part]).mean()
        assert 0.01 < expected < 0.2  # two components describe these events, but not wholly
        assert found == pytest.approx(expected, rel=0.01)


def test_the_divergence_of_a_vae_is_the_closed_form_of_what_its_encoder_says():
    """Against an integral of q ln(q/p) for each latent dimension, and against drawing from q."""
    settings = TrainingSettings(**SMALL_VAE)
    network = build(settings, 5, seed=3)
    rng = np.random.default_rng(4)
    for name in ("latent_mean", "latent_log_variance"):
        layer = network.get_layer(name)
        layer.kernel.assign(rng.normal(0, 0.6, layer.kernel.shape))
        layer.bias.assign(rng.normal(0, 0.3, layer.bias.shape))
    inputs = rng.normal(size=(6, 5)).astype(np.float32)
    latent = keras.Model(
        network.input, [network.get_layer(f"latent_{part}").output for part in ("mean", "log_variance")]
    )
    mean, log_variance = (keras.ops.convert_to_numpy(part).astype(np.float64) for part in latent(inputs))
    sigma = np.exp(0.5 * log_variance)
    found = keras.ops.convert_to_numpy(network(inputs))[:, 0, -1]

    def integrand(z, loc, scale):
        return norm.pdf(z, loc, scale) * (norm.logpdf(z, loc, scale) - norm.logpdf(z))

    for event in range(6):
        pairs = zip(mean[event], sigma[event], strict=True)
        integral = sum(quad(integrand, m - 12 * s, m + 12 * s, args=(m, s))[0] for m, s in pairs)
        assert found[event] == pytest.approx(integral, rel=1e-4)
        z = rng.normal(mean[event], sigma[event], size=(200_000, 2))
        drawn = (norm.logpdf(z, mean[event], sigma[event]) - norm.logpdf(z)).sum(axis=1)
        assert found[event] == pytest.approx(drawn.mean(), abs=5 * drawn.std() / np.sqrt(len(drawn)))


# An upper tail follows single events as far as ten independent ones lie beyond: there copies count, weights do not.
@pytest.mark.parametrize("scaler", ["standard", "minmax"])
def test_an_event_of_weight_two_trains_like_the_event_twice(tmp_path, shard_writer, event_maker, scaler):
    """From shards to scores: scaler, weights, batches and steps; an epoch is one batch of all events."""
    events = event_maker(900, channel=1, seed=5)
    events["weight"] = np.where(np.arange(900) % 3 == 0, 2.0, 1.0)
    split = _splits(events)
    # Copies have event numbers of their own, of the split that the original is in.
    numbers = np.arange(10_000, 30_000, dtype=np.uint64)
    spare = {
        "eventNumber": numbers,
        "channelNumber": np.full(20_000, 1),
        "runNumber": np.full(20_000, 284500),
    }
    spare_split = _splits(spare)
    chosen = np.flatnonzero(events["weight"] == 2)
    copies = {name: column[chosen] for name, column in events.items()}
    copies["eventNumber"] = copies["eventNumber"].copy()
    for part in range(3):
        own = split[chosen] == part
        copies["eventNumber"][own] = numbers[spare_split == part][: own.sum()]
    twice = {name: np.concatenate([column, copies[name]]) for name, column in events.items()}
    twice["weight"] = np.ones(len(twice["weight"]))
    settings = TrainingSettings(scaler=scaler, batch_size=10_000, min_steps=1, epochs=12, patience=None)
    scores, cards = [], []
    for name, sample in (("weighted", events), ("repeated", twice)):
        output = tmp_path / name
        manifest = shard_writer(output / "shards" / "2L", {"1.Zee": ("background", "Zjets", sample)})
        model = load_model(train(manifest, features="reduced", settings=settings, seed=1, output=output))
        scores.append(model.score(_features(events)))
        cards.append(model.card["metrics"])
    np.testing.assert_allclose(*scores, atol=5e-3)
    assert np.std(scores[0]) > 0.1
    for metric in ("loss", "val_loss", "mean_predictor_loss"):
        assert cards[0][metric] == pytest.approx(cards[1][metric], rel=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scaler": "upper-tail"},
        SMALL_VAE | {"scaler": "upper-tail", "epochs": 30},
    ],
    ids=["autoencoder", "upper tails", "vae"],
)
def test_an_anomaly_made_by_hand_scores_above_all_but_a_thousandth_of_background(
    tmp_path, shard_writer, event_maker, options
):
    events = event_maker(6000, channel=1, seed=6)
    manifest = shard_writer(tmp_path / "shards" / "2L", {"1.Zee": ("background", "Zjets", events)})
    model = load_model(
        train(manifest, features="table", settings=TrainingSettings(**options), seed=1, output=tmp_path)
    )
    held_out = _features(events, model.features)[_splits(events) == 2]
    anomaly = np.median(held_out, axis=0)
    # Two leptons of 1.2 TeV back to back with missing energy that balances nothing.
    for name, value in {"met_et": 1500.0, "lep1_pt": 1200.0, "lep2_pt": 1100.0, "mll": 2300.0}.items():
        anomaly[model.features.index(name)] = value
    assert model.score(anomaly[np.newaxis])[0] > np.quantile(model.score(held_out), 0.999)

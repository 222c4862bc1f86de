import numpy as np
import pytest

from fileset.exceptions import InputError
from models import backend
from models.search.space import active_values, search_space, trial_settings
from models.settings import TrainingSettings

backend.start()

PENALTIES = {0.5, 0.1, 0.05, 0.01}
ACTIVATIONS = {"relu", "tanh", "leakyrelu", "linear"}
LAYERS = ("encoder_1", "encoder_2", "encoder_3", "latent", "decoder_1", "decoder_2", "decoder_3")


def drawn(space, seed):
    """Values of a random trial, drawn as the oracle does."""
    return {
        parameter.name: parameter.random_sample(1000 * seed + place)
        for place, parameter in enumerate(space.space)
    }


@pytest.mark.parametrize(
    ("name", "n_inputs", "widths"),
    [
        ("report", 33, [(20, 32), (15, 19), (10, 14), (1, 9), (10, 14), (15, 19), (20, 32)]),
        ("thesis", 529, [(60, 528), (30, 59), (10, 29), (1, 9), (10, 29), (30, 59), (60, 528)]),
    ],
)
def test_the_spaces_of_the_sources_are_theirs(name, n_inputs, widths):
    space = {parameter.name: parameter for parameter in search_space(name, n_inputs=n_inputs).space}
    for layer, limits in zip(LAYERS, widths, strict=True):
        assert (space[layer].min_value, space[layer].max_value) == limits
        assert set(space[f"{layer}_activation"].values) == ACTIVATIONS
    assert set(space["output_activation"].values) == ACTIVATIONS
    assert set(space["kernel_l1"].values) == set(space["activity_l2"].values) == PENALTIES
    assert set(space["leaky_alpha"].values) == {1.0, 0.5, 0.1, 0.05, 0.01}
    assert set(space["learning_rate"].values) == {9e-2, 9.5e-2, 1e-3, 1.5e-3}
    assert len(space) == 2 * len(LAYERS) + 5


def test_a_trial_of_the_report_is_its_network():
    values = dict(zip(LAYERS, (22, 15, 10, 2, 10, 16, 27), strict=True))
    values |= {f"{layer}_activation": "tanh" for layer in LAYERS} | {"output_activation": "linear"}
    values |= {"kernel_l1": 0.05, "activity_l2": 0.5, "leaky_alpha": 1.0, "learning_rate": 1.5e-3}
    base = TrainingSettings(preset="report-minmax")
    settings = trial_settings(values, base, epochs=5)
    assert (settings.encoder, settings.decoder) == ((22, 15, 10, 2), (10, 16, 27))
    assert settings.decoder_activations == ("tanh", "tanh", "tanh", "linear")
    assert (settings.scaler, settings.batch_size, settings.epochs) == ("minmax", 8192, 5)
    assert (settings.learning_rate_schedule, settings.patience) == ("constant", None)


def test_the_wide_space_has_networks_of_every_depth_on_either_side():
    space = search_space("wide", n_inputs=33)
    trials = [trial_settings(drawn(space, seed), TrainingSettings(), epochs=2) for seed in range(300)]
    depths = {(len(trial.encoder), len(trial.decoder)) for trial in trials}
    assert depths == {(encoder, decoder) for encoder in (1, 2, 3, 4) for decoder in (0, 1, 2, 3)}
    assert any(trial.encoder[:-1] != trial.decoder[::-1] for trial in trials)
    assert max(max(trial.encoder) for trial in trials) > 33
    rates = np.log10([trial.learning_rate for trial in trials])
    assert np.quantile(rates, [0.1, 0.5, 0.9]) == pytest.approx([-3.7, -2.5, -1.3], abs=0.3)
    assert any(trial.kernel_l1 == 0 for trial in trials)
    assert {trial.beta for trial in trials} == {1.0}


def test_layers_beyond_the_depth_make_no_difference():
    values = drawn(search_space("wide", n_inputs=33), 1) | {"encoder_layers": 1, "decoder_layers": 0}
    active = active_values(values | {"tuner/epochs": 2})
    assert {"encoder_1", "encoder_1_activation", "latent", "output_activation", "batch_size"} <= active.keys()
    assert not {"encoder_2", "decoder_1", "decoder_1_activation", "tuner/epochs"} & active.keys()
    settings = trial_settings(values, TrainingSettings(), epochs=2)
    assert settings == trial_settings(active, TrainingSettings(), epochs=2)


def test_the_divergence_of_a_vae_may_be_searched():
    space = search_space("wide", n_inputs=33, variational=True)
    base = TrainingSettings(preset="thesis-vae-small")
    trials = [trial_settings(drawn(space, seed), base, epochs=2) for seed in range(60)]
    assert {trial.kind for trial in trials} == {"vae"}
    assert {trial.draws for trial in trials} == {1, 2, 4}
    assert min(trial.beta for trial in trials) < 0.1
    assert max(trial.beta for trial in trials) > 1


def test_a_space_wider_than_the_inputs_is_refused():
    with pytest.raises(InputError, match="take the space 'wide'"):
        search_space("report", n_inputs=13)

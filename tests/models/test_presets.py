"""Every experiment of the two sources has its name, and its network is the published one."""

import pytest

from models import backend
from models.presets import PRESET_FEATURES, PRESETS
from models.settings import TrainingSettings
from report.analysis import Analysis

SOURCES = {
    "report-minmax",
    "report-unstacked",
    "report-reduced",
    "report-standard",
    "thesis-ae-small",
    "thesis-ae-big",
    "thesis-tunable",
    "thesis-vae-small",
    "thesis-vae-big",
}
N_INPUTS = {"table": 33, "reduced": 13, "kinematics": 6, "rmm": 529, "rmm-energies": 258}


def test_all_experiments_of_both_sources_are_there():
    assert set(PRESETS) >= SOURCES
    assert set(PRESETS) == set(PRESET_FEATURES)


@pytest.mark.parametrize("preset", sorted(SOURCES))
def test_a_preset_brings_its_features_and_batches(preset):
    analysis = Analysis.model_validate({"training": {"preset": preset}})
    wanted = "rmm" if preset.startswith("thesis") else "reduced" if preset == "report-reduced" else "table"
    assert analysis.feature_set == wanted
    assert analysis.training.batch_size == 8192


@pytest.mark.parametrize(
    ("preset", "widths", "learning_rate", "penalties"),
    [
        ("report-minmax", (22, 15, 10, 2, 10, 16, 27), 1.5e-3, (0.05, 0.5)),
        ("report-unstacked", (24,), 0.09, (0.05, 0.01)),
        ("report-reduced", (7, 6, 2, 6, 8, 11), 1.5e-3, (0.5, 0.5)),
        ("report-standard", (22, 15, 10, 2, 10, 16, 27), 1.5e-3, (0.01, 0.01)),
        ("thesis-ae-small", ("n", 150), 1.0e-3, (0.0, 0.0)),
        ("thesis-ae-big", ("n", 450, 300, 200, 150, 200, 350, 450), 1.0e-3, (0.0, 0.0)),
        ("thesis-vae-big", (400, 300, 200, 150, 200, 300, 400), 1.0e-3, (0.0, 0.0)),
    ],
)
def test_a_network_is_as_published(preset, widths, learning_rate, penalties):
    settings = TrainingSettings(preset=preset)
    assert (*settings.encoder, *settings.decoder) == widths
    assert settings.learning_rate == learning_rate
    assert (settings.kernel_l1, settings.activity_l2) == penalties


def test_the_thesis_tunes_between_these_widths():
    """Its listing: 60..n-1, 30..59, 10..29, 1..9 and back, penalties on the first, third, fifth and seventh layer."""
    settings = TrainingSettings(preset="thesis-tunable")
    ranges = [(60, 528), (30, 59), (10, 29), (1, 9), (10, 29), (30, 59), (60, 528)]
    widths = (*settings.encoder, *settings.decoder)
    assert all(low <= width <= high for width, (low, high) in zip(widths, ranges, strict=True))
    backend.start()
    from models.autoencoder import build  # noqa: PLC0415

    network = build(settings, 529)
    names = [f"encoder_{place}" for place in range(1, 5)] + [f"decoder_{place}" for place in range(1, 4)]
    penalised = [network.get_layer(name).kernel_regularizer is not None for name in names]
    assert penalised == [True, False, True, False, True, False, True]
    assert [network.get_layer(name).activity_regularizer is not None for name in names] == penalised


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_builds_and_gives_back_its_inputs_shape(preset):
    backend.start()
    from models.autoencoder import build  # noqa: PLC0415

    n_inputs = N_INPUTS[PRESET_FEATURES[preset]]
    network = build(TrainingSettings(preset=preset), n_inputs)
    assert network.input_shape == (None, n_inputs)
    outputs = (None, 1, n_inputs + 1) if TrainingSettings(preset=preset).kind == "vae" else (None, n_inputs)
    assert network.output_shape == outputs

import pytest
from pydantic import ValidationError

from models.presets import PRESET_FEATURES, PRESETS
from models.settings import TrainingSettings
from processors.split import SPLIT_FRACTIONS


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid_survives_json_and_knows_its_features(preset):
    settings = TrainingSettings(preset=preset)
    assert TrainingSettings.model_validate_json(settings.model_dump_json()) == settings
    assert PRESET_FEATURES[preset] in {"table", "reduced", "kinematics", "rmm"}


def test_what_is_given_wins_over_the_preset():
    settings = TrainingSettings(preset="report-minmax", epochs=3)
    assert (settings.epochs, settings.learning_rate, settings.leaky_alpha) == (3, 1.5e-3, 1.0)


def test_the_reports_minmax_network_has_the_published_layers():
    settings = TrainingSettings(preset="report-minmax")
    assert (*settings.encoder, *settings.decoder) == (22, 15, 10, 2, 10, 16, 27)


@pytest.mark.parametrize(
    ("given", "culprit"),
    [
        ({"preset": "reprot-minmax"}, "reprot-minmax"),
        ({"encoder": (8, 3)}, "encoder_activations has 3 entries for 2"),
        ({"decoder": ()}, "one for the output"),
        ({"scaler": "robust"}, "upper-tail"),
        ({"learning_rat": 1.0}, "learning_rat"),
    ],
)
def test_wrong_settings_are_named(given, culprit):
    with pytest.raises(ValidationError, match=culprit):
        TrainingSettings(**given)


def test_what_is_held_out_is_a_setting_and_a_fifth_of_the_rest_validates():
    assert TrainingSettings().fractions == SPLIT_FRACTIONS
    assert TrainingSettings(test_fraction=0.5).fractions == (0.4, 0.1, 0.5)
    assert TrainingSettings(train_on="data", data_fraction=0.25).fractions == (0.2, 0.05, 0.75)

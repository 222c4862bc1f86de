"""Configuration files: what is in force, where it comes from, and that it can be written out and read again."""

from pathlib import Path

from fileset.configuration import commented_yaml, origins_of, read_configuration
from fileset.settings import Settings


class _Training(Settings):
    preset: str = "default"
    epochs: int = 50


class _Whole(Settings):
    seed: int = 1
    output: Path = Path("output")
    training: _Training = _Training()


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    return path


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    path = _file(tmp_path, "seed: 2\ntraining:\n  epochs: 3\n")
    whole = read_configuration(_Whole, path, {"seed": 7})
    assert (whole.seed, whole.training.epochs, whole.output) == (7, 3, Path("output"))


def test_every_value_says_where_it_comes_from(tmp_path: Path) -> None:
    path = _file(tmp_path, "seed: 2\ntraining:\n  # as in the paper\n  epochs: 3\n")
    given = {"seed": 7}
    origins = origins_of(read_configuration(_Whole, path, given), path, given)
    assert origins == {
        "seed": "the command line",
        "output": "default",
        "training.preset": "default",
        "training.epochs": f"{path}, line 4",
    }


def test_what_a_preset_gives_is_the_presets(tmp_path: Path) -> None:
    whole = _Whole(training=_Training(preset="short", epochs=5))
    origins = origins_of(whole, None, {"training.preset": "short"})
    assert origins["training.epochs"] == "preset short"
    assert origins["training.preset"] == "the command line"


def test_origins_stand_behind_the_values_and_the_text_is_still_yaml(tmp_path: Path) -> None:
    given = {"training.epochs": 9}
    whole = read_configuration(_Whole, None, given)
    text = commented_yaml(whole, origins=origins_of(whole, None, given))
    assert "  epochs: 9  # <- the command line" in text.splitlines()
    assert read_configuration(_Whole, _file(tmp_path, text), {}) == whole


def test_a_written_file_leaves_to_the_preset_what_the_preset_gives() -> None:
    assert "  # epochs: 50" in commented_yaml(_Whole()).splitlines()

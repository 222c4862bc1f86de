import numpy as np
import pytest

from models.checkpoints import Checkpoint, State


@pytest.fixture
def state():
    return State(
        {"loss": [1 / 3, 0.1], "best": 1},
        {"weights": [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(0.1) * np.ones(3)], "none": []},
    )


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "models" / ".m.checkpoint.npz", "this configuration")


def test_a_state_comes_back_to_the_bit(checkpoint, state):
    assert checkpoint.load() is None
    checkpoint.save(state)
    found = checkpoint.load()
    assert found.record == state.record
    assert found.arrays.keys() == state.arrays.keys()
    for one, other in zip(found.arrays["weights"], state.arrays["weights"], strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    checkpoint.remove()
    assert checkpoint.load() is None
    checkpoint.remove()


def test_the_last_state_takes_the_place_of_the_one_before(checkpoint, state):
    checkpoint.save(state)
    checkpoint.save(state._replace(record={"loss": []}))
    assert checkpoint.load().record == {"loss": []}
    assert len(list(checkpoint.path.parent.iterdir())) == 1


def test_the_state_of_another_configuration_is_ignored(checkpoint, state):
    checkpoint._replace(key="another").save(state)
    assert checkpoint.load() is None


@pytest.mark.parametrize("broken", [b"", b"no archive", "half"])
def test_a_broken_file_is_as_good_as_none_and_is_named(checkpoint, state, broken, caplog):
    checkpoint.save(state)
    content = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(content[: len(content) // 2] if broken == "half" else broken)
    assert checkpoint.load() is None
    assert "m.checkpoint.npz cannot be read" in caplog.text


def test_a_state_that_is_half_written_leaves_the_one_before(checkpoint, state, monkeypatch):
    checkpoint.save(state)

    def full(file, **arrays):
        file.write(b"the first bytes")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(state._replace(record={}))
    assert checkpoint.load().record == state.record
    assert len(list(checkpoint.path.parent.iterdir())) == 1


def test_what_would_run_code_is_not_read(checkpoint, state, caplog):
    checkpoint.path.parent.mkdir()
    with checkpoint.path.open("wb") as file:
        np.savez(file, record=np.array([{"key": checkpoint.key}], dtype=object))
    assert checkpoint.load() is None
    assert "cannot be read" in caplog.text

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from models import backend
from models.bundle import load_model
from models.settings import TrainingSettings
from models.training import train

SCRIPT = """
from fileset.exceptions import InputError
from models import backend
try:
    print(backend.start(threads=1))
    import tensorflow as tf
    print(tf.config.threading.get_intra_op_parallelism_threads())
    print(backend.start(threads=1), backend.versions()["backend"])
except InputError as error:
    print(error)
"""


def _run(name):
    environment = os.environ | {"KERAS_BACKEND": name}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    return found.stdout.split("\n"), found.stderr


def test_the_backend_starts_quietly_with_the_threads_asked_for():
    lines, stderr = _run("tensorflow")
    assert lines[:3] == ["tensorflow", "1", "tensorflow tensorflow"]
    assert stderr == ""


def test_a_backend_that_is_not_installed_is_named():
    try:
        import torch  # noqa: F401, PLC0415

        pytest.skip("torch is installed here")
    except ModuleNotFoundError:
        lines, _ = _run("torch")
    assert "torch" in lines[0]
    assert "set KERAS_BACKEND=tensorflow" in lines[0]


def test_a_backend_that_keras_does_not_know_is_named():
    lines, _ = _run("bogus")
    assert "bogus" in lines[0]
    assert "set KERAS_BACKEND=tensorflow" in lines[0]


def test_importing_the_stages_does_not_import_keras():
    code = (
        "import sys, models.training, models.bundle, models.studies.evaluation; print('keras' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


OTHER = """
import sys
import numpy as np
from models.bundle import load_model
bundle, inputs, scores = sys.argv[1:]
model = load_model(bundle)
found = model.scores(np.load(inputs))
np.savez(scores, **found)
"""


def test_a_bundle_scores_the_same_with_tensorflow_and_with_jax(tmp_path, samples, shard_writer, require):
    """To 1e-5, for events with errors from 1e-5 of the inputs, where rounding shows most, to thousands of them."""
    require(find_spec("jax"), "jax is not installed")
    manifest = shard_writer(tmp_path / "shards" / "2L", samples)
    settings = TrainingSettings(epochs=12)
    bundle = train(manifest, features="table", settings=settings, seed=2, output=tmp_path)
    model = load_model(bundle)
    inputs = np.concatenate(
        [np.column_stack([events[name] for name in model.features]) for _, _, events in samples.values()]
    )
    inputs = np.concatenate([inputs, 100 * inputs[:50], model.scaler.invert(np.zeros((1, inputs.shape[1])))])
    inputs = inputs.astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    other = {"tensorflow": "jax", "jax": "tensorflow"}[backend.start()]
    subprocess.run(
        [sys.executable, "-c", OTHER, bundle, tmp_path / "inputs.npy", tmp_path / "scores.npz"],
        env=os.environ | {"KERAS_BACKEND": other},
        check=True,
        timeout=300,
    )
    elsewhere = np.load(tmp_path / "scores.npz")
    here = model.scores(inputs)
    assert set(here) == set(elsewhere)
    for name, scores in here.items():
        np.testing.assert_allclose(elsewhere[name], scores, rtol=0, atol=1e-5, err_msg=name)
    assert np.ptp(here["mse"]) > 3

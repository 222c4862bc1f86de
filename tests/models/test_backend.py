import os
import subprocess
import sys

import pytest

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


def test_importing_the_stages_does_not_import_keras():
    code = "import sys, models.training, models.bundle, models.evaluation; print('keras' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"

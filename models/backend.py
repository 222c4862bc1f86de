"""The array library behind Keras: started quietly, with the threads asked for, and its compiler.

Keras takes its backend from the environment (`KERAS_BACKEND`, tensorflow by default). All other code in this
package speaks `keras.ops` only; what the backends call differently stands here.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fileset.exceptions import InputError
from models.threads import threads_asked

__all__ = ["asked", "start", "versions", "xla"]

logger = logging.getLogger(__name__)

_STDERR = 2


def asked() -> str:
    """The backend that Keras is to start with; it is not started."""
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


def start(threads: int | None = None) -> str:
    """Import Keras and its backend (seconds and a gigabyte, so only where a model is needed).

    Args:
        threads: size of TensorFlow's two thread pools; by default OMP_NUM_THREADS, which Dask sets to 1 for its
            workers, and all cores without it. It can only be set before TensorFlow's first operation; later
            calls are ignored with a warning.

    Returns:
        The name of the backend.

    Raises:
        InputError: the backend that KERAS_BACKEND asks for is not installed, or not known to Keras.
    """
    if "keras" in sys.modules:
        return _limit_threads(threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if threads is None:
        threads = threads_asked()
    if find_spec("XRootD") is not None:
        # Loaded after TensorFlow 2.21, the library of XRootD 6 crashes the process; before it, both work.
        import_module("XRootD.client")
    try:
        with _quiet_stderr():
            import keras  # noqa: PLC0415

            name = _limit_threads(threads)
            keras.ops.zeros(1)
    except (ImportError, ValueError) as error:  # Keras knows no backend of this name: ValueError
        msg = f"Keras cannot start its backend ({error}): install it or set KERAS_BACKEND=tensorflow"
        raise InputError(msg) from error
    return name


def xla(asked: Literal["auto", "on", "off"] = "auto") -> bool:
    """Whether training steps go through XLA: always with JAX, with TensorFlow as asked, by default only on a GPU.

    On two cores TensorFlow's own kernels trained a 529-input network at 99 000 events/s, XLA at 94 000, after
    a compilation that took twice as long.
    """
    name = start()
    if name == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415

        return asked == "on" or (asked == "auto" and bool(tf.config.list_physical_devices("GPU")))
    return name == "jax"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a model computes."""
    found = {"python": ".".join(map(str, sys.version_info[:3])), "backend": start()}
    for package in ("keras", "tensorflow", "jax", "numpy", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _limit_threads(threads: int | None) -> str:
    import keras  # noqa: PLC0415

    name = str(keras.backend.backend())
    if threads is not None and name == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415

        pools = tf.config.threading
        try:
            if pools.get_intra_op_parallelism_threads() != threads:
                pools.set_intra_op_parallelism_threads(threads)
            if pools.get_inter_op_parallelism_threads() != threads:
                pools.set_inter_op_parallelism_threads(threads)
        except RuntimeError:
            logger.warning("TensorFlow runs already and keeps its threads; %d were asked for", threads)
    return name


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what TensorFlow's C++ writes to stderr before its own log level counts."""
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    try:
        with Path(os.devnull).open("wb") as sink:
            os.dup2(sink.fileno(), _STDERR)
            yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)

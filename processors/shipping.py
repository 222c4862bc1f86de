"""Brings this project's own packages to schedulers and workers that lack them, or hold another copy.

A Dask worker or scheduler without them fails with "lost dependencies", which no retry cures on distributed 2025.3:
they must be there before anything of ours is pickled. Packages are unpacked rather than imported from an archive,
for they read data files beside their source and numba caches there what it compiles.

What runs over there (`_found`, `_put_in_place`, `_Packages`) is pickled by value, so it imports nothing of ours.
"""

import importlib.metadata
import io
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import cloudpickle
from distributed import WorkerPlugin

from processors.own_functions import SUFFIXES, sources

__all__ = ["PACKAGES", "THREAD_VARIABLES", "by_value", "ship"]

PACKAGES = ("fileset", "processors", "models", "report")
DISTRIBUTION = "collider-anomalies"

# A Dask worker is one thread of many: libraries that start a thread for each core are told to start one.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# Topic under which workers that were sent away tell the client so.
TOPIC = DISTRIBUTION


@contextmanager
def by_value(module: ModuleType) -> Iterator[None]:
    """Functions and classes of a module are pickled with their code while this lasts."""
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _found(packages: tuple[str, ...], suffixes: tuple[str, ...]) -> dict[str, str]:
    """Digest of each package's files as this process imports it; empty where it cannot.

    A directory without `__init__.py` that happens to have the same name is none.
    """
    import hashlib  # noqa: PLC0415 - runs where this module is not
    import importlib  # noqa: PLC0415
    from importlib.util import find_spec  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    importlib.invalidate_caches()
    digests = {}
    for package in packages:
        digests[package] = ""
        try:
            spec = find_spec(package)
        except (ImportError, ValueError):
            continue
        if spec is None or spec.origin is None or not Path(spec.origin).is_file():
            continue
        root, digest = Path(spec.origin).parent, hashlib.sha256()
        alone = spec.submodule_search_locations is None
        for path in [Path(spec.origin)] if alone else sorted(root.rglob("*")):
            if path.suffix in suffixes and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        digests[package] = digest.hexdigest()
    return digests


def _put_in_place(
    archive: bytes, expected: Mapping[str, str], suffixes: tuple[str, ...], directory: str
) -> str:
    """Unpacks the packages and makes them the ones that are imported, unless the very same are there.

    Returns:
        "installed" or "shipped".
    """
    import hashlib  # noqa: PLC0415 - runs where this module is not
    import importlib  # noqa: PLC0415
    import io  # noqa: PLC0415
    import sys  # noqa: PLC0415
    import zipfile  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    prefix = "collider-anomalies-"
    if _found(tuple(expected), suffixes) == expected:
        return "shipped" if any(Path(entry).name.startswith(prefix) for entry in sys.path) else "installed"
    place = Path(directory) / f"{prefix}{hashlib.sha256(archive).hexdigest()[:16]}"
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        packed.extractall(place)
    sys.path[:] = [str(place), *(entry for entry in sys.path if not Path(entry).name.startswith(prefix))]
    for name in list(sys.modules):
        if name.partition(".")[0] in expected:
            del sys.modules[name]
    importlib.invalidate_caches()
    return "shipped"


def _on_scheduler(
    archive: bytes, expected: Mapping[str, str], suffixes: tuple[str, ...], dask_scheduler: Any
) -> str:
    return _put_in_place(archive, expected, suffixes, dask_scheduler.local_directory)


class _Packages(WorkerPlugin):
    """Makes every worker, those that come later too, fit for our tasks.

    Args:
        archive: of the packages.
        expected: digest of each.
        suffixes: of the files that count.
        variables: of the environment that are 1 where nothing else was set.
        versions: of the packages that decide results.
        versions_here: tells those of a worker.
        known: addresses of workers whose versions are looked at by `readiness.check_workers`. Any other comes
            later: one with other versions is sent away, for its results could differ.
        topic: under which that is told.
    """

    name = "collider-anomalies"

    def __init__(
        self,
        archive: bytes,
        expected: Mapping[str, str],
        suffixes: tuple[str, ...],
        variables: tuple[str, ...],
        versions: Mapping[str, str],
        versions_here: Callable[[tuple[str, ...]], dict[str, str]],
        known: frozenset[str],
        topic: str,
    ) -> None:
        self.archive = archive
        self.expected = dict(expected)
        self.suffixes = suffixes
        self.variables = variables
        self.versions = dict(versions)
        self.versions_here = versions_here
        self.known = known
        self.topic = topic
        self.how = ""

    def setup(self, worker: Any) -> None:
        import os  # noqa: PLC0415 - runs where this module is not

        for variable in self.variables:
            os.environ.setdefault(variable, "1")
        if worker.address not in self.known:
            here = self.versions_here(tuple(self.versions))
            other = [f"{p} {v or 'missing'}" for p, v in here.items() if v != self.versions[p]]
            if other:
                message = f"worker {worker.address} came late, has {', '.join(other)} and was sent away"
                worker.log_event(self.topic, message)
                worker.loop.add_callback(worker.close, reason=message)
                return
        self.how = _put_in_place(self.archive, self.expected, self.suffixes, worker.local_directory)


def ship(
    client: Any,
    *,
    versions: Mapping[str, str],
    versions_here: Callable[[tuple[str, ...]], dict[str, str]],
    known: frozenset[str],
    within: float | None = None,
    own: tuple[str, ...] = (),
) -> str:
    """Has scheduler and workers import the same packages of ours as this process does.

    Args:
        client: of the cluster.
        versions: of other packages as they must be on a worker that comes later.
        versions_here: tells them there; pickled by value.
        known: addresses of the workers that are there now.
        within: time that the scheduler and the workers have for each of two steps; None for any [s].
        own: modules and packages of the user that go with them.

    Returns:
        How the scheduler has them: "installed" or "shipped".
    """
    expected = _found(tuple(dict.fromkeys((*PACKAGES, *own))), SUFFIXES)
    archive = _archive(tuple((name, digest) for name, digest in expected.items() if name not in PACKAGES))
    plugin = _Packages(archive, expected, SUFFIXES, THREAD_VARIABLES, versions, versions_here, known, TOPIC)
    with by_value(sys.modules[__name__]):
        how = client.sync(
            client.run_on_scheduler, _on_scheduler, archive, expected, SUFFIXES, callback_timeout=within
        )
        client.sync(client.register_plugin, plugin, name=plugin.name, callback_timeout=within)
    return str(how)


@cache
def _archive(own: tuple[tuple[str, str], ...] = ()) -> bytes:
    """The packages and, so that their version is known there, what pip would know of them.

    Args:
        own: modules and packages of the user, with the digest of their content.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for package in (*PACKAGES, *(name for name, _ in own)):
            root, files = sources(package)
            for path in files:
                _add(packed, path.relative_to(root).as_posix(), path.read_bytes())
        about = importlib.metadata.distribution(DISTRIBUTION)
        folder = f"{DISTRIBUTION.replace('-', '_')}-{about.version}.dist-info"
        _add(packed, f"{folder}/METADATA", (about.read_text("METADATA") or "").encode())
    return buffer.getvalue()


def _add(packed: zipfile.ZipFile, name: str, content: bytes) -> None:
    # The date of a file says nothing: the same content gives the same archive.
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    packed.writestr(entry, content)

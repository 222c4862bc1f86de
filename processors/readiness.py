"""Looks first: is a Dask cluster fit for our tasks? Whatever is not is told together, each with its remedy.

The functions that run on scheduler and workers (`_facts`, `_importable`, `_write_and_read`, `_opened`) are pickled by
value: they are there before our packages are.
"""

import asyncio
import logging
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from fileset.exceptions import FailureError
from processors.dispatch import cause_of
from processors.own_functions import modules_to_send
from processors.shipping import THREAD_VARIABLES, TOPIC, by_value, ship

__all__ = ["Look", "NotReadyError", "check_workers", "one_file_each"]

logger = logging.getLogger(__name__)

_SCHEDULER = "the scheduler"
_ELSEWHERE = "is another directory"

# These decide results or must speak the same protocol; of Python only the minor version does.
_DECISIVE = (
    *("python", "coffea", "awkward", "uproot", "numpy", "numba", "vector", "mt2", "hist"),
    *("dask", "distributed"),
)
_DECISIVE_FOR_MODELS = ("keras", "tensorflow")

# What is imported for real, with all that it needs.
_MODULES = ("fileset.audit", "processors.selection", "processors.scoring", "processors.comparison")
_MODULES_FOR_MODELS = ("models.bundle",)

# A network disk shows a new file on other machines after a while [s].
_VISIBLE_WITHIN = 5.0

# How long scheduler and workers may take to answer; Keras on a cold network disk takes a minute to import [s].
_ANSWERS_WITHIN = 120.0

# Workers named in a sentence; of the others only the number is told.
_NAMED = 2


@dataclass(frozen=True)
class Look:
    """One thing looked at: a row of the table that a person sees."""

    what: str
    seen: str
    failures: tuple[str, ...] = ()


class NotReadyError(FailureError):
    """The cluster is not fit for the run; `looks` holds everything that was seen."""

    def __init__(self, looks: list[Look]) -> None:
        failures = [failure for look in looks for failure in look.failures]
        many = f"{len(failures)} things are missing on the cluster:\n- "
        super().__init__(failures[0] if len(failures) == 1 else many + "\n- ".join(failures))
        self.looks = looks


def check_workers(
    client: Any,
    *,
    output: Path | None = None,
    inputs: Mapping[str, str] | None = None,
    scoring: bool = False,
    timeout: int = 60,
    own: tuple[str, ...] = (),
) -> list[Look]:
    """Looks whether scheduler and workers can do the work, and gives them our packages where these are missing.

    Nothing of ours is pickled by reference before they have them. Workers that come later get them too; one with
    other versions is sent away, which is logged as a warning.

    Args:
        client: of the cluster.
        output: directory that every worker must be able to write to, and share with this machine.
        inputs: dataset -> path or address of a file that some worker must be able to read.
        scoring: models will be used: Keras' backend must be there too.
        timeout: time that a server of files may take to answer [s].
        own: functions of the user's own, "module:function", that workers must have.

    Returns:
        What was seen, in the order looked at.

    Raises:
        NotReadyError: something is missing.
    """
    _tell_who_is_sent_away(client)
    workers = client.scheduler_info()["workers"]
    packages = (*_DECISIVE, *(_DECISIVE_FOR_MODELS if scoring else ()))
    with by_value(sys.modules[__name__]):
        looks = [
            _look_at_size(workers),
            _look_at_versions(client, workers, packages),
            _look_at_packages(client, workers, packages, scoring=scoring, own=own),
            _look_at_threads(client, workers),
        ]
        if scoring:
            looks.append(_look_at_backend(client, workers))
        if output is not None:
            looks.append(_look_at_output(client, workers, output.absolute()))
        if inputs and not looks[2].failures:  # they are read with our own code
            looks.append(_look_at_inputs(client, workers, inputs, timeout))
    if any(look.failures for look in looks):
        raise NotReadyError(looks)
    return looks


def one_file_each(fileset: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """A file of each dataset of a fileset, to be looked at."""
    return {dataset: next(iter(content["files"])) for dataset, content in fileset.items() if content["files"]}


def _tell_who_is_sent_away(client: Any) -> None:
    client.subscribe_topic(TOPIC, lambda event: logger.warning("%s", event[1]))


def _named(places: Sequence[str], workers: Mapping[str, Any]) -> str:
    """Scheduler and workers in words; of many workers a few are named."""
    own = [place for place in places if place in workers]
    parts = [_SCHEDULER] if _SCHEDULER in places else []
    if own:
        some = ", ".join(own[:_NAMED]) + (", ..." if len(own) > _NAMED else "")
        few = f"{len(own)} of {len(workers)} workers ({some})"
        parts.append(few if len(own) < len(workers) else f"all {len(workers)} workers")
    return " and ".join(parts)


def _everywhere(client: Any, workers: Mapping[str, Any], function: Any, *args: Any) -> dict[str, Any]:
    """What a function returns (or raises) on the scheduler and on each worker."""
    from distributed.comm.core import CommClosedError  # noqa: PLC0415 - only where Dask is used

    try:
        answer = client.sync(client.run_on_scheduler, function, *args, callback_timeout=_ANSWERS_WITHIN)
        results = {_SCHEDULER: answer}
    except TimeoutError:
        raise _silent([_SCHEDULER], workers, _ANSWERS_WITHIN) from None
    except CommClosedError:
        raise  # not what the function said: the scheduler is lost
    except (OSError, RuntimeError, ValueError) as error:
        results = {_SCHEDULER: error}
    return results | _on_workers(client, workers, function, *args)


def _on_workers(
    client: Any, workers: Mapping[str, Any], function: Any, *args: Any, limit: float | None = None
) -> dict[str, Any]:
    """What a function returns (or raises) on each worker.

    Raises:
        NotReadyError: some do not answer in time.
        OSError: the scheduler is lost.
    """
    within = limit or _ANSWERS_WITHIN
    silent: list[str] = []

    async def ask(address: str) -> Any:
        asked = client.run(function, *args, workers=[address], on_error="return")
        try:
            return (await asyncio.wait_for(asked, within))[address]
        except TimeoutError:
            silent.append(address)
        except KeyError as error:  # it went away meanwhile
            return error
        return None

    async def ask_all() -> list[Any]:
        return list(await asyncio.gather(*(ask(address) for address in workers)))

    answers = dict(zip(workers, client.sync(ask_all), strict=True))
    if silent:
        raise _silent(silent, workers, within)
    return answers


def _silent(places: Sequence[str], workers: Mapping[str, Any], within: float) -> NotReadyError:
    failure = (
        f"no answer came within {within:g} s from {_named(places, workers)}: see whether they have too little memory "
        "(--memory) or a disk there is stuck, and restart them"
    )
    return NotReadyError([Look("answers", "none", (failure,))])


def _by_answer(answers: Mapping[str, Any]) -> dict[Any, list[str]]:
    """Answer -> the places that gave it."""
    places: dict[Any, list[str]] = {}
    for place, answer in answers.items():
        said = cause_of(answer) if isinstance(answer, BaseException) else answer
        places.setdefault(said, []).append(place)
    return places


# --- each look -------------------------------------------------------------------------------------------------


def _look_at_size(workers: Mapping[str, Any]) -> Look:
    if not workers:
        return Look("workers", "none", ("the cluster has no worker: start some, or wait for them",))
    threads = sum(worker["nthreads"] for worker in workers.values())
    memory = min(worker["memory_limit"] or 0 for worker in workers.values())
    each = f"{memory / 1e9:.1f} GB each" if memory else "no memory limit"
    return Look("workers", f"{len(workers)} with {threads} threads, {each}")


def _look_at_versions(client: Any, workers: Mapping[str, Any], packages: tuple[str, ...]) -> Look:
    here = _versions(packages)
    there = _everywhere(client, workers, _versions, packages)
    silent = {place: answer for place, answer in there.items() if isinstance(answer, BaseException)}
    failures = [
        f"{_named(places, workers)} cannot be asked ({cause}): restart what does not answer"
        for cause, places in _by_answer(silent).items()
    ]
    for package, own in here.items():
        said = {place: answer[package] for place, answer in there.items() if place not in silent}
        for version, places in _by_answer(said).items():
            if version == "":
                failures.append(
                    f"{package} is not installed on {_named(places, workers)}: install {package}=={own} there"
                )
            elif version != own:
                failures.append(
                    f"{package} is {version} on {_named(places, workers)} and {own} here: install {own} there, or "
                    f"start this program in an environment with {version}"
                )
    return Look("versions", ", ".join(f"{p} {v}" for p, v in here.items()), tuple(failures))


def _look_at_packages(
    client: Any,
    workers: Mapping[str, Any],
    packages: tuple[str, ...],
    *,
    scoring: bool,
    own: tuple[str, ...] = (),
) -> Look:
    try:
        on_scheduler = ship(
            client,
            versions=_versions(packages),
            versions_here=_versions,
            known=frozenset(workers),
            within=_ANSWERS_WITHIN,
            own=modules_to_send(own),
        )
    except TimeoutError:
        raise _silent([_SCHEDULER, *workers], workers, _ANSWERS_WITHIN) from None
    except (OSError, RuntimeError, ValueError) as error:
        failure = (
            f"our packages cannot be brought to the cluster ({cause_of(error)}): free space in the scratch directory "
            "of scheduler and workers, or install collider-anomalies there"
        )
        return Look("packages", "not shipped", (failure,))
    how = {_SCHEDULER: on_scheduler} | _on_workers(client, workers, _how_packages_came)
    of_user = tuple(sorted({name.partition(":")[0] for name in own}))
    modules = (*_MODULES, *(_MODULES_FOR_MODELS if scoring else ()), *of_user)
    failures = tuple(
        f"{modules[0].partition('.')[0]} and the other packages cannot be imported on {_named(places, workers)} "
        f"({problem}): install what is missing there"
        for problem, places in _by_answer(_everywhere(client, workers, _importable, modules)).items()
        if problem
    )
    seen = "; ".join(f"{way} on {_named(places, workers)}" for way, places in _by_answer(how).items())
    return Look("packages", seen, failures)


def _look_at_threads(client: Any, workers: Mapping[str, Any]) -> Look:
    facts = {
        address: fact
        for address, fact in _on_workers(client, workers, _threads, THREAD_VARIABLES).items()
        if isinstance(fact, dict)
    }
    hosts: dict[str, list[str]] = {}
    for address, fact in facts.items():
        hosts.setdefault(fact["host"], []).append(address)
    failures = []
    for host, addresses in hosts.items():
        threads = sum(workers[address]["nthreads"] for address in addresses)
        allowed = max(facts[addresses[0]]["cores"], threads)
        for variable in THREAD_VARIABLES:
            started = sum(
                workers[a]["nthreads"] * int(facts[a]["set"][variable] or facts[a]["cores"])
                for a in addresses
            )
            if started > allowed:
                failures.append(
                    f"{variable} lets {len(addresses)} workers on {host} start {started} threads on "
                    f"{facts[addresses[0]]['cores']} cores: set it to 1 where workers are started"
                )
    pools = Counter(f"{v}={fact['set'][v]}" for fact in facts.values() for v in THREAD_VARIABLES)
    return Look("thread pools", ", ".join(pools), tuple(failures))


def _look_at_backend(client: Any, workers: Mapping[str, Any]) -> Look:
    own = _backend()[0]
    failures = []
    for answer, places in _by_answer(_on_workers(client, workers, _backend)).items():
        name, found = answer if isinstance(answer, tuple) else (str(answer), False)
        if name != own:
            failures.append(
                f"models run on {name} on {_named(places, workers)} and on {own} here: set KERAS_BACKEND to the same"
            )
        elif not found:
            failures.append(
                f"{name} is not installed on {_named(places, workers)}, where models score: install it there"
            )
    return Look("models run on", own, tuple(failures))


def _look_at_output(client: Any, workers: Mapping[str, Any], output: Path) -> Look:
    """Each side reads what the other wrote: the same directory, not just one of the same name."""
    token = f".look-{uuid.uuid4().hex}"
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / token).write_text(token, encoding="utf-8")
    except OSError as error:
        failure = f"{output} cannot be written here ({cause_of(error)}): give another --output"
        return Look("output", str(output), (failure,))
    problems: dict[str, list[str]] = {}
    try:
        answers = _on_workers(client, workers, _write_and_read, str(output), token, _VISIBLE_WITHIN)
        for address, answer in answers.items():
            problem = cause_of(answer) if isinstance(answer, BaseException) else answer["problem"]
            if not problem and not _appears(output / answer["wrote"], token):
                problem = _ELSEWHERE
            if problem:
                problems.setdefault(problem, []).append(address)
    finally:
        for path in output.glob(f"{token}*"):
            path.unlink(missing_ok=True)
    failures = tuple(
        f"{output} on {_named(places, workers)} {problem}: give --output on a disk that all machines share"
        for problem, places in problems.items()
    )
    return Look("output", f"{output}, written and read by {len(workers)} workers", failures)


def _appears(path: Path, content: str) -> bool:
    end = time.monotonic() + _VISIBLE_WITHIN
    while True:
        try:
            if path.read_text(encoding="utf-8") == content:
                return True
        except OSError:
            pass  # not yet, or never
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def _look_at_inputs(client: Any, workers: Mapping[str, Any], inputs: Mapping[str, str], timeout: int) -> Look:
    assigned: dict[str, list[tuple[str, str]]] = {}
    for entry, address in zip(inputs.items(), cycle(workers), strict=False):
        assigned.setdefault(address, []).append(entry)
    failed = []
    # Files of a worker are opened one after the other, and each may take that long.
    limit = _ANSWERS_WITHIN + timeout * max(map(len, assigned.values()))
    for address, answer in _on_workers(client, workers, _opened, assigned, timeout, limit=limit).items():
        if isinstance(answer, BaseException):
            failed += [(*entry, address, cause_of(answer)) for entry in assigned.get(address, [])]
        else:
            failed += [(dataset, path, address, problem) for dataset, path, problem in answer]
    failures: tuple[str, ...] = ()
    if failed:
        dataset, path, address, problem = failed[0]
        many = f"{len(failed)} of {len(inputs)} datasets cannot be read on the workers, such as "
        what = f"{path} of {dataset} cannot be read on {address} ({problem})"
        if len(failed) > 1:
            what = many + f"{path} of {dataset} on {address} ({problem})"
        failures = (f"{what}: give a disk that all machines share, or addresses that workers can reach",)
    return Look("inputs", f"a file of each of {len(inputs)} datasets", failures)


# --- what runs on scheduler and workers ------------------------------------------------------------------------


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of packages where this runs; empty where one is missing."""
    import importlib.metadata  # noqa: PLC0415 - runs where this module is not
    import platform  # noqa: PLC0415

    names = {"tensorflow": ("tensorflow", "tensorflow-cpu")}  # two distributions of one package
    found = {}
    for package in packages:
        if package == "python":
            found[package] = platform.python_version().rpartition(".")[0]
            continue
        found[package] = ""
        for name in names.get(package, (package,)):
            try:
                found[package] = found[package] or importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def _how_packages_came(dask_worker: Any) -> str:
    return str(dask_worker.plugins["collider-anomalies"].how)


async def _importable(modules: tuple[str, ...]) -> str:
    """What keeps the modules from being imported; empty when nothing does."""
    import asyncio  # noqa: PLC0415 - runs where this module is not
    import importlib  # noqa: PLC0415

    try:
        for module in modules:
            await asyncio.to_thread(importlib.import_module, module)
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _threads(variables: tuple[str, ...]) -> dict[str, Any]:
    import os  # noqa: PLC0415 - runs where this module is not
    import socket  # noqa: PLC0415

    values = {variable: os.environ.get(variable, "") for variable in variables}
    return {
        "host": socket.gethostname(),
        "cores": len(os.sched_getaffinity(0)),
        "set": {variable: value if value.isdecimal() else "" for variable, value in values.items()},
    }


def _backend() -> tuple[str, bool]:
    """Library that Keras computes with where this runs, and whether it is there; nothing is imported."""
    import os  # noqa: PLC0415 - runs where this module is not
    from importlib.util import find_spec  # noqa: PLC0415

    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    return name, find_spec(name) is not None


async def _write_and_read(directory: str, token: str, within: float, dask_worker: Any) -> dict[str, str]:
    import asyncio  # noqa: PLC0415 - runs where this module is not
    import time  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    own, theirs = Path(directory) / f"{token}-{dask_worker.id}", Path(directory) / token
    end = time.monotonic() + within
    while not theirs.is_file():
        if time.monotonic() > end:
            return {"wrote": "", "problem": "is another directory"}
        await asyncio.sleep(0.1)
    try:
        own.write_text(theirs.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        return {"wrote": "", "problem": f"cannot be written ({type(error).__name__}: {error.strerror})"}
    return {"wrote": own.name, "problem": ""}


async def _opened(
    assigned: dict[str, list[tuple[str, str]]], timeout: int, dask_worker: Any
) -> list[tuple[str, str, str]]:
    """The files (dataset, path) of this worker that cannot be opened, and why."""
    import asyncio  # noqa: PLC0415 - runs where this module is not

    import pyarrow.parquet  # noqa: PLC0415
    import uproot  # noqa: PLC0415

    from fileset.read_errors import OPEN_ERRORS  # noqa: PLC0415 - shipped before
    from fileset.remote import source_options  # noqa: PLC0415

    def attempt(path: str) -> str:
        try:
            if path.endswith(".parquet"):
                pyarrow.parquet.read_schema(path)
            else:
                uproot.open(path, **source_options(timeout)).close()
        except OPEN_ERRORS as error:
            return f"{type(error).__name__}: {error}".split("\n", 1)[0]
        return ""

    failed = []
    for dataset, path in assigned.get(dask_worker.address, []):
        problem = await asyncio.to_thread(attempt, path)
        if problem:
            failed.append((dataset, path, problem))
    return failed

"""Before the first task: what is missing on a cluster is told at once, each in one sentence with its remedy."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from processors import readiness
from processors.readiness import NotReadyError, check_workers, one_file_each
from processors.shipping import THREAD_VARIABLES

WORKERS = {
    f"tcp://node:{port}": {"nthreads": 1, "memory_limit": 2_000_000_000, "name": str(port)}
    for port in (1, 2, 3)
}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        pytest.MonkeyPatch.context() as patch,
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        for variable in THREAD_VARIABLES:
            patch.setenv(variable, "1")
        yield client


class Answering:
    """A cluster of three workers that answers as it is told to: function -> what it returns, or worker -> that."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {
            "_versions": readiness._versions,
            "_importable": lambda *_: "",
            "_how_packages_came": lambda: "installed",
            "_backend": readiness._backend,
            "_threads": lambda variables: {"host": "node", "cores": 4, "set": dict.fromkeys(variables, "1")},
            "_on_scheduler": lambda *_: "installed",
            **answers,
        }
        self.workers = WORKERS

    def scheduler_info(self) -> dict[str, Any]:
        return {"workers": self.workers}

    def subscribe_topic(self, topic: str, handler: Any) -> None:
        pass

    def register_plugin(self, plugin: Any, name: str) -> None:
        pass

    def sync(self, function: Any, *arguments: Any, **named: Any) -> Any:
        named.pop("callback_timeout", None)
        answer = function(*arguments, **named)
        return asyncio.run(answer) if asyncio.iscoroutine(answer) else answer

    def run_on_scheduler(self, function: Any, *arguments: Any) -> Any:
        answer = self.answers[function.__name__]
        return answer(*arguments) if callable(answer) else function(*arguments)

    async def run(self, function: Any, *arguments: Any, workers: list[str], **_: Any) -> dict[str, Any]:
        answer = self.answers[function.__name__]
        return {w: answer(*arguments) if callable(answer) else answer[w] for w in workers}


def failures(cluster: Answering, **what: Any) -> list[str]:
    with pytest.raises(NotReadyError) as raised:
        check_workers(cluster, **what)
    told = [failure for look in raised.value.looks for failure in look.failures]
    for failure in told:
        assert failure in str(raised.value)
        assert "\n" not in failure
    return told


def test_a_cluster_that_is_fit_is_described(client: Client, sample: Any, tmp_path: Path) -> None:
    inputs = one_file_each(sample.fileset(100))
    assert inputs.keys() == sample.fileset(100).keys()
    looks = check_workers(client, output=tmp_path / "new" / "output", inputs=inputs, scoring=True)
    seen = {look.what: look.seen for look in looks}
    assert seen["workers"].startswith("2 with 2 threads")
    assert seen["packages"] == "installed on the scheduler and all 2 workers"
    assert "coffea 2" in seen["versions"]
    assert "tensorflow 2" in seen["versions"]
    assert seen["models run on"] == "tensorflow"
    assert seen["inputs"] == f"a file of each of {len(inputs)} datasets"
    assert list((tmp_path / "new" / "output").iterdir()) == []


def test_files_that_workers_cannot_open_are_named(client: Client, sample: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.root"
    broken.write_bytes(b"no ROOT file" * 100)
    inputs = {"Zee": str(tmp_path / "missing.root"), "ttbar": str(broken)}
    with pytest.raises(NotReadyError, match=r"2 of 2 datasets cannot be read .*such as .* on inproc"):
        check_workers(client, inputs=inputs)
    with pytest.raises(NotReadyError, match=r"broken.root of ttbar cannot be read on .*give a disk"):
        check_workers(client, inputs={"ttbar": str(broken)})


def test_an_output_that_cannot_be_made_is_named(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(NotReadyError, match=r"file/output cannot be written here \(NotADirectoryError"):
        check_workers(client, output=tmp_path / "file" / "output")


def test_a_cluster_without_workers_is_not_fit() -> None:
    cluster = Answering()
    cluster.workers = {}
    assert failures(cluster) == ["the cluster has no worker: start some, or wait for them"]


def test_other_versions_are_told_with_where_and_what_to_do() -> None:
    own = readiness._versions(readiness._DECISIVE)
    one, two, three = WORKERS
    cluster = Answering(
        _versions={one: own | {"numba": ""}, two: own | {"numpy": "1.26.4"}, three: own | {"numpy": "1.26.4"}}
    )
    numpy, numba = failures(cluster)
    assert numpy == (
        f"numpy is 1.26.4 on 2 of 3 workers ({two}, {three}) and {own['numpy']} here: install {own['numpy']} there, "
        "or start this program in an environment with 1.26.4"
    )
    assert numba == f"numba is not installed on 1 of 3 workers ({one}): install numba=={own['numba']} there"


def test_who_does_not_answer_is_told() -> None:
    own = readiness._versions(readiness._DECISIVE)
    one, *others = WORKERS
    cluster = Answering(_versions={one: OSError("Timed out")} | dict.fromkeys(others, own))
    assert failures(cluster) == [
        f"1 of 3 workers ({one}) cannot be asked (OSError: Timed out): restart what does not answer"
    ]


def test_a_worker_that_is_silent_is_not_waited_for_for_ever(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck() -> None:
        await asyncio.sleep(5)

    monkeypatch.setattr(readiness, "_ANSWERS_WITHIN", 0.2)
    workers = client.scheduler_info()["workers"]
    begin = time.monotonic()
    for ask, who in ((readiness._on_workers, "all 2 workers"), (readiness._everywhere, "the scheduler")):
        with pytest.raises(NotReadyError, match=f"no answer came within 0.2 s from {who}: .* memory"):
            ask(client, workers, stuck)
    assert time.monotonic() - begin < 4


def test_what_cannot_be_imported_is_told() -> None:
    problem = "ModuleNotFoundError: No module named 'mt2'"
    (failure,) = failures(Answering(_importable=lambda *_: problem))
    assert failure.endswith(f"on the scheduler and all 3 workers ({problem}): install what is missing there")


def test_more_threads_than_cores_are_told() -> None:
    many = {
        "host": "node",
        "cores": 4,
        "set": dict.fromkeys(THREAD_VARIABLES, "1") | {"OMP_NUM_THREADS": "4"},
    }
    (failure,) = failures(Answering(_threads=lambda _: many))
    assert failure == (
        "OMP_NUM_THREADS lets 3 workers on node start 12 threads on 4 cores: set it to 1 where workers are started"
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            ("tensorflow", False),
            "tensorflow is not installed on all 3 workers, where models score: install it there",
        ),
        (
            ("jax", True),
            "models run on jax on all 3 workers and on tensorflow here: set KERAS_BACKEND to the same",
        ),
    ],
)
def test_what_models_run_on_must_be_there(answer: tuple[str, bool], message: str) -> None:
    cluster = Answering(_backend=dict.fromkeys(WORKERS, answer))
    assert failures(cluster, scoring=True) == [message]
    # Nobody scores, nobody asks.
    check_workers(cluster)


def test_an_output_of_the_same_name_on_another_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "_VISIBLE_WITHIN", 0.1)
    (failure,) = failures(
        Answering(_write_and_read=lambda *_: {"wrote": "elsewhere", "problem": ""}), output=tmp_path
    )
    assert (
        failure
        == f"{tmp_path} on all 3 workers is another directory: give --output on a disk that all machines share"
    )
    assert list(tmp_path.iterdir()) == []


def test_everything_that_is_missing_is_told_together(tmp_path: Path) -> None:
    cluster = Answering(
        _importable=lambda *_: "ImportError: x",
        _write_and_read=lambda *_: {"wrote": "", "problem": "cannot be written (PermissionError: no)"},
    )
    with pytest.raises(NotReadyError, match=r"^2 things are missing on the cluster:\n- .*\n- ") as raised:
        check_workers(cluster, output=tmp_path, inputs={"Zee": "nowhere.root"})
    assert [bool(look.failures) for look in raised.value.looks] == [False, False, True, False, True]

"""Nobody waits for ever: results that were lost with the last worker are told after a time."""

from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster, Worker, wait

from processors.dispatch import DaskChunks, added_up
from processors.patience import DesertedError, Presence

pytestmark = pytest.mark.xdist_group("dask")


@pytest.fixture
def mortal() -> Iterator[tuple[LocalCluster, Client]]:
    """A cluster of one worker that nobody brings back."""
    with (
        LocalCluster(
            n_workers=1,
            worker_class=Worker,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield cluster, client


def lose_the_worker(cluster: LocalCluster) -> None:
    (worker,) = cluster.workers.values()
    cluster.sync(worker.close, nanny=False)


def test_results_are_gathered_in_their_order(mortal: tuple[LocalCluster, Client]) -> None:
    _, client = mortal
    assert Presence(client).gathered(client.map(abs, [-3, 2, -1])) == [3, 2, 1]
    assert Presence(client).gathered([]) == []


def test_a_result_that_was_lost_with_the_last_worker_is_waited_for_only_so_long(
    mortal: tuple[LocalCluster, Client],
) -> None:
    cluster, client = mortal
    done = client.map(abs, [-1, -2])
    wait(done)
    lose_the_worker(cluster)
    presence = Presence(client, patience=0.5)
    with pytest.raises(DesertedError, match=r"no worker of the Dask scheduler .* runs for 0\.5 s"):
        presence.gathered(done)
    assert presence.deserted


def test_what_a_task_raises_is_raised(mortal: tuple[LocalCluster, Client]) -> None:
    _, client = mortal
    with pytest.raises(TimeoutError, match="of its own"):
        Presence(client).gathered([client.submit(_too_late)])


def _too_late() -> None:
    message = "of its own"
    raise TimeoutError(message)


def test_books_are_added_up_here_where_all_workers_are_lost(
    mortal: tuple[LocalCluster, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, client = mortal
    monkeypatch.setattr("processors.dispatch.PATIENCE", 0.5)
    numbers = list(range(-50, 0))
    executor = DaskChunks(client=client)
    assert added_up(executor, abs, numbers) == sum(range(1, 51))
    lose_the_worker(cluster)
    assert added_up(executor, abs, numbers) == sum(range(1, 51))

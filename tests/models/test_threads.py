"""Matrix products take one thread each while events are scored, and as many as before afterwards."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
from threadpoolctl import threadpool_info

from models.threads import single_matrix_threads, threads_asked


def _threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_blocks_may_overlap_and_the_last_one_puts_the_threads_back():
    before, both_in = _threads(), Barrier(2)

    def held(_):
        with single_matrix_threads():
            both_in.wait(timeout=60)
            threads = _threads()
            both_in.wait(timeout=60)
            return threads

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(held, range(2)))
    assert all(1 in threads for threads in found), (before, found)
    assert _threads() == before


def test_any_thread_may_be_the_first_and_another_the_next():
    before = _threads()

    def alone(_):
        with single_matrix_threads():
            return _threads()

    found = [alone(0)]
    with ThreadPoolExecutor(1) as pool:
        found += pool.map(alone, range(1))
    found.append(alone(0))
    assert all(1 in threads for threads in found), found
    assert _threads() == before


def test_a_number_of_threads_is_asked_for_in_the_environment(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_asked() is None
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_asked() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert threads_asked() is None

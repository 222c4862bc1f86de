"""The split of events into training, validation and test hangs on who an event is and on the seed alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.split import SPLITS, identity_hash, split_of

N = 200_000
CHANNEL, RUN, EVENT = np.full(N, 361106), np.full(N, 284500), np.arange(1, N + 1, dtype=np.uint64)

identities = st.lists(
    st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**64 - 1)),
    min_size=1,
    max_size=40,
)


def columns(events: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    channel, run, event = zip(*events, strict=True)
    return np.array(channel, np.int64), np.array(run, np.int64), np.array(event, np.uint64)


@settings(deadline=None)
@given(events=identities, cut=st.integers(0, 40), seed=st.integers(0, 2**40), data=st.data())
def test_an_event_falls_where_it_falls_in_any_order_and_chunk(
    events: list[tuple[int, int, int]], cut: int, seed: int, data: st.DataObject
) -> None:
    whole = split_of(*columns(events), seed=seed)
    order = data.draw(st.permutations(range(len(events))))
    shuffled = split_of(*columns([events[i] for i in order]), seed=seed)
    np.testing.assert_array_equal(shuffled, whole[list(order)])
    parts = [split_of(*columns(part), seed=seed) for part in (events[:cut], events[cut:]) if part]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("fractions", [(0.64, 0.16, 0.20), (0.5, 0.0, 0.5), (0.1, 0.2, 0.7)])
@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_fractions_hold_within_binomial_errors(fractions: tuple[float, float, float], seed: int) -> None:
    split = split_of(CHANNEL, RUN, EVENT, seed=seed, fractions=fractions)
    assert split.dtype == np.uint8
    for number, fraction in enumerate(fractions):
        expected, error = N * fraction, np.sqrt(N * fraction * (1 - fraction))
        assert abs((split == number).sum() - expected) <= 4 * error


def test_the_default_is_that_of_the_sources() -> None:
    split = split_of(CHANNEL, RUN, EVENT, seed=1)
    assert SPLITS == ("train", "validation", "test")
    assert (split == 2).mean() == pytest.approx(0.20, abs=4e-3)
    assert (split == 0).sum() / (split < 2).sum() == pytest.approx(0.80, abs=4e-3)


def test_seeds_are_independent() -> None:
    one, other = (split_of(CHANNEL, RUN, EVENT, seed=seed) == 0 for seed in (1, 2))
    both = (one & other).mean()
    assert abs(both - 0.64**2) < 4 * np.sqrt(0.64**2 * (1 - 0.64**2) / N)


@pytest.mark.parametrize("part", ["channel", "run", "event"])
def test_every_part_of_the_identity_counts(part: str) -> None:
    changed = {"channel": CHANNEL, "run": RUN, "event": EVENT}
    before = split_of(*changed.values(), seed=1)
    changed[part] = changed[part] + type(changed[part][0])(1 if part != "event" else N)
    after = split_of(*changed.values(), seed=1)
    # Two independent draws agree with probability sum of squares of the fractions.
    assert (before == after).mean() == pytest.approx(0.64**2 + 0.16**2 + 0.2**2, abs=0.01)


def test_the_integer_type_of_a_column_does_not_matter() -> None:
    narrow = split_of(CHANNEL.astype(np.int32), RUN.astype(np.uint32), EVENT.astype(np.int64), seed=9)
    np.testing.assert_array_equal(narrow, split_of(CHANNEL, RUN, EVENT, seed=9))


def test_a_wrapped_number_is_another_event_so_it_must_be_unwrapped_first() -> None:
    wrapped = np.arange(-N, 0, dtype=np.int32)
    unwrapped = wrapped.view(np.uint32).astype(np.uint64)
    assert unwrapped.max() == 2**32 - 1
    of_unwrapped = split_of(CHANNEL, RUN, unwrapped, seed=1)
    assert (of_unwrapped == 2).mean() == pytest.approx(0.2, abs=4e-3)
    assert (split_of(CHANNEL, RUN, wrapped, seed=1) != of_unwrapped).any()


def test_hashes_of_neighbours_share_no_bits_and_never_collide() -> None:
    hashes = identity_hash(CHANNEL, RUN, EVENT, seed=0)
    assert np.unique(hashes).size == N
    bits = np.unpackbits((hashes[1:] ^ hashes[:-1]).view(np.uint8)).reshape(N - 1, 64).mean(axis=0)
    np.testing.assert_allclose(bits, 0.5, atol=0.01)


def test_known_events_never_move() -> None:
    """A stored model's test events must stay test events in every later version."""
    known = split_of([361106] * 30, [284500] * 30, range(1, 31), seed=1)
    assert "".join(map(str, known)) == "001000000020100001010010012000"


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.2, 0.0)])
def test_fractions_that_are_none_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must be non-negative and add up to 1"):
        split_of([1], [1], [1], seed=1, fractions=fractions)


def test_no_events() -> None:
    assert split_of([], [], [], seed=1).shape == (0,)

"""Whether an event trains, validates or tests: a hash of its identity and a seed, and of nothing else."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["SPLITS", "SPLIT_FRACTIONS", "identity_hash", "split_of"]

SPLITS = ("train", "validation", "test")
# The sources' 80/20 split into training and test, the 80 split again 80/20.
SPLIT_FRACTIONS = (0.64, 0.16, 0.20)

# The odd constants of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One SplitMix64 step: every bit of the input changes every bit of the output with probability 1/2."""
    with np.errstate(over="ignore"):
        state = state + _INCREMENT
        state = (state ^ (state >> np.uint64(30))) * _MULTIPLY_1
        state = (state ^ (state >> np.uint64(27))) * _MULTIPLY_2
    return state ^ (state >> np.uint64(31))


def identity_hash(channel: ArrayLike, run: ArrayLike, event: ArrayLike, *, seed: int) -> NDArray[np.uint64]:
    """Hash of (channelNumber, runNumber, eventNumber) and a seed, uniform over 64 bits.

    Args:
        channel: dataset number of simulation, run number of collision data; shape (n,).
        run: run number, shape (n,).
        event: event number, shape (n,), unsigned (`processors.schema` unwraps the int32 of 2020).
        seed: any integer.

    Returns:
        Shape (n,), the same for the same event wherever it is stored.
    """
    state = np.full(np.shape(event), np.uint64(seed % 2**64), dtype=np.uint64)
    for part in (channel, run, event):
        state = _mix(state ^ np.asarray(part).astype(np.uint64))
    return state


def split_of(
    channel: ArrayLike,
    run: ArrayLike,
    event: ArrayLike,
    *,
    seed: int,
    fractions: tuple[float, float, float] = SPLIT_FRACTIONS,
) -> NDArray[np.uint8]:
    """Index into `SPLITS` for each event.

    Args:
        channel: see `identity_hash`.
        run: see `identity_hash`.
        event: see `identity_hash`.
        seed: another seed gives another, independent split.
        fractions: of train, validation and test; they add up to 1.

    Returns:
        Shape (n,): 0 train, 1 validation, 2 test.

    Raises:
        ValueError: the fractions are negative or do not add up to 1.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        message = f"split fractions {fractions} must be non-negative and add up to 1"
        raise ValueError(message)
    # 53 bits are what a double holds exactly.
    uniform = (identity_hash(channel, run, event, seed=seed) >> np.uint64(11)) * 2.0**-53
    edges = np.cumsum(fractions[:2])
    return np.searchsorted(edges, uniform, side="right").astype(np.uint8)

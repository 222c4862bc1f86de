"""Small samples shared by the tests of the simulation."""

import awkward as ak
import pytest

from fileset.simulation.blocks import Block, simulate_block


@pytest.fixture(scope="session")
def z_events() -> ak.Array:
    """Z → ee and Z → μμ events with two leptons."""
    blocks = [Block(name, "simulation", 0, 2000, 0, {"2lep": 1}, 5) for name in ("Zee", "Zmumu")]
    return ak.concatenate([simulate_block(block).events["2lep"] for block in blocks])


@pytest.fixture(scope="session")
def top_events() -> ak.Array:
    """Dileptonic tt̄ events with two leptons or more."""
    return simulate_block(Block("ttbar_lep", "simulation", 0, 1500, 0, {"2lep": 1}, 5)).events["2lep"]

"""A block of events: the unit of work of the simulation, the same wherever and in whatever order it runs.

Its random numbers depend on (seed, dataset number, stream, block) alone.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np

from fileset.exceptions import FailureError, InputError
from fileset.simulation.detector import detect
from fileset.simulation.leptons import candidates_of
from fileset.simulation.particles import Particles, particles_of
from fileset.simulation.processes import COMMON_SETTINGS, Process
from fileset.simulation.samples import BY_NAME
from fileset.simulation.settings import Skim
from fileset.simulation.spectrum import slha_text

__all__ = ["Block", "BlockResult", "pythia_version", "simulate_block", "skimmed"]

BATCH = 1000  # events handed over by Pythia at a time
PICOBARN = 1e9  # of Pythia's mb
_STREAMS = {"simulation": 0, "data": 1}


@dataclass(frozen=True)
class Block:
    """Events to generate.

    Attributes:
        process: name of the process.
        stream: `simulation` or `data`, which is independent of it.
        number: number of the block within process and stream.
        events: events to generate.
        first: number of the block's first event within process and stream.
        passes: passes through the detector for each skim that needs this block.
        seed: the run's seed.
    """

    process: str
    stream: Literal["simulation", "data"]
    number: int
    events: int
    first: int
    passes: dict[Skim, int]
    seed: int


@dataclass(frozen=True)
class BlockResult:
    """What became of a block.

    Attributes:
        block: the block.
        pythia_pb: Pythia's leading-order cross section [pb], with the branching ratios it knows.
        events: per skim a record array of the accepted events, with `weight` (the number of passes in which
            the event was accepted) and `number` (its number within process and stream).
    """

    block: Block
    pythia_pb: float
    events: dict[Skim, ak.Array]


def _pythia(process: Process, seed: int) -> Any:
    try:
        import pythia8mc  # noqa: PLC0415 - only the extra [simulate] has it
    except ImportError as error:
        message = "the simulation needs Pythia 8: install the extra with pip install '.[simulate]'"
        raise InputError(message) from error
    generator = pythia8mc.Pythia("", False)
    with tempfile.TemporaryDirectory() as directory:
        settings = [*COMMON_SETTINGS, "Random:setSeed = on", f"Random:seed = {seed}"]
        if process.slha is not None:
            spectrum = Path(directory) / "spectrum.slha"
            spectrum.write_text(slha_text(process.slha), encoding="ascii")
            settings += [f"SLHA:file = {spectrum}", "SLHA:verbose = 0"]
        for text in (*settings, *process.pythia):
            if not generator.readString(text):
                message = f"Pythia refused the setting {text!r} of process {process.name}"
                raise FailureError(message)
        if not generator.init():
            message = f"Pythia could not start process {process.name}; its messages above say why"
            raise FailureError(message)
    return generator


def pythia_version() -> str:
    """Version of the generator."""
    import importlib.metadata  # noqa: PLC0415

    return importlib.metadata.version("pythia8mc")


def skimmed(events: ak.Array, skim: Skim) -> ak.Array:
    """Events of a skim: at least two leptons, or exactly three."""
    return events[events["lep_n"] >= 2] if skim == "2lep" else events[events["lep_n"] == 3]


def _within(particles: Particles, window: tuple[float, float] | None) -> np.ndarray:
    if window is None:
        return np.ones(len(particles), dtype=bool)
    return (particles.boson_pt >= window[0]) & (particles.boson_pt < window[1])


def _one_of_each(passes: list[ak.Array], rng: np.random.Generator) -> ak.Array:
    """One accepted pass of each event, drawn at random, with the number of accepted passes as weight.

    The expectation of any weighted histogram is that of all passes, and no event occurs twice.
    """
    events = ak.concatenate(passes) if len(passes) > 1 else passes[0]
    index = np.asarray(events["index"])
    order = rng.permutation(len(index))
    unique, first, counts = np.unique(index[order], return_index=True, return_counts=True)
    chosen = ak.with_field(events[order[first]], counts.astype(np.float32), "weight")
    return ak.with_field(chosen, unique, "number")


def simulate_block(block: Block) -> BlockResult:
    """Generate the events of a block and pass them through the detector.

    Raises:
        InputError: Pythia is not installed.
        FailureError: Pythia refused its settings or stopped.
    """
    process = BY_NAME[block.process]
    entropy = [block.seed, process.dsid, _STREAMS[block.stream], block.number]
    pythia_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0]) % 900_000_000 + 1
    generator = _pythia(process, pythia_seed)
    accepted: dict[Skim, list[ak.Array]] = {skim: [] for skim in block.passes}
    drawing = np.random.default_rng([*entropy, 1_000_000])
    for start in range(0, block.events, BATCH):
        batch = generator.nextBatch(min(BATCH, block.events - start))
        if len(batch) < min(BATCH, block.events - start):
            message = f"Pythia stopped within block {block.number} of process {process.name}"
            raise FailureError(message)
        particles = particles_of(batch)
        candidates = candidates_of(particles)
        window = _within(particles, process.boson_pt)
        inside = window[candidates.event]
        candidates = candidates[inside]
        found: dict[Skim, list[ak.Array]] = {skim: [] for skim in block.passes}
        for number in range(max(block.passes.values())):
            wanted = [skim for skim, passes in block.passes.items() if number < passes]
            rng = np.random.default_rng([*entropy, start, number])
            minimum = 2 if "2lep" in wanted else 3
            events = detect(particles, candidates, minimum=minimum, rng=rng)
            events = events[window[np.asarray(events["index"])]]
            for skim in wanted:
                found[skim].append(skimmed(events, skim))
        for skim in block.passes:
            chosen = _one_of_each(found[skim], drawing)
            accepted[skim].append(ak.with_field(chosen, chosen["number"] + block.first + start + 1, "number"))
    events_of = {skim: ak.concatenate(parts) for skim, parts in accepted.items()}
    return BlockResult(block, float(generator.infoPython().sigmaGen()) * PICOBARN, events_of)

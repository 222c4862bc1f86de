"""The `simulate` stage: a sample in the release's format and layout, with its catalogue beside the files.

Work is cut into blocks (blocks.py) that any `map` may run: the built-in one, a process pool's, or one that
submits to a Dask cluster. The order of results is the order of blocks, so the files do not depend on it.
"""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np
import yaml

from fileset.simulation.blocks import Block, BlockResult, pythia_version, simulate_block
from fileset.simulation.mini_file import write_mini
from fileset.simulation.processes import COMMON_SETTINGS, GROUPS, Process
from fileset.simulation.samples import SAMPLES
from fileset.simulation.settings import SimulationSettings, Skim

__all__ = ["simulate"]

logger = logging.getLogger(__name__)

BlockMap = Callable[[Callable[[Block], BlockResult], Iterable[Block]], Iterable[BlockResult]]
Progress = Callable[[int, int, str], None]

MC_RUN = 284500  # as in the release
DATA_RUN = 299000  # a number within period A that no recorded run has
# Independent events generated for the pseudo-data per event of the luminosity: without and with repeated
# passes, where an event may be accepted more than once but is drawn once.
MARGIN = (1.3, 2.5)
_ONES = [
    f"scaleFactor_{what}"
    for what in ("PILEUP", "ELE", "MUON", "PHOTON", "TAU", "BTAG", "LepTRIGGER", "PhotonTRIGGER")
]
_TRUTH = ("lep_truthMatched", "jet_trueflav", "jet_truthMatched")
_SYSTEMATICS = ("lep_pt_syst", "jet_pt_syst", "met_et_syst")


@dataclass(frozen=True)
class Sample:
    """The simulated events of a process.

    Attributes:
        process: the process.
        xsec_pb: its cross section [pb].
        generated: events generated, per skim.
        sumw: sum of weights of all generated events, per skim: events times passes.
        events: accepted events, per skim.
    """

    process: Process
    xsec_pb: float
    generated: dict[Skim, int]
    sumw: dict[Skim, float]
    events: dict[Skim, ak.Array]


def plan(
    process: Process,
    wanted: dict[Skim, int],
    *,
    stream: Literal["simulation", "data"],
    settings: SimulationSettings,
) -> list[Block]:
    """Blocks that give each skim its number of generated events; skims share the first blocks."""
    blocks = []
    total = max(wanted.values(), default=0)
    edges = sorted({0, *wanted.values(), *range(0, total, settings.block_size)})
    edges = [edge for edge in edges if edge <= total]
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        passes = {skim: process.passes.get(skim, 1) for skim, n in wanted.items() if n >= last}
        blocks.append(
            Block(
                process=process.name,
                stream=stream,
                number=number,
                events=last - first,
                first=first,
                passes=passes,
                seed=settings.seed,
            )
        )
    return blocks


def collect(process: Process, results: list[BlockResult], wanted: dict[Skim, int]) -> Sample:
    """Put the blocks of a process together."""
    generated = sum(result.block.events for result in results)
    pythia_pb = sum(r.pythia_pb * r.block.events for r in results) / generated
    rule = process.cross_section
    events = {skim: ak.concatenate([r.events[skim] for r in results if skim in r.events]) for skim in wanted}
    return Sample(
        process=process,
        xsec_pb=rule.value * pythia_pb if rule.of_pythia else rule.value,
        generated=dict(wanted),
        sumw={skim: float(n * process.passes.get(skim, 1)) for skim, n in wanted.items()},
        events=events,
    )


def _wanted(process: Process, settings: SimulationSettings) -> dict[Skim, int]:
    """Events to generate per skim."""
    return {
        skim: settings.events or max(1, round(process.generated[skim] * settings.scale))
        for skim in settings.skims
        if skim in process.generated
    }


def _wanted_for_data(sample: Sample, settings: SimulationSettings) -> dict[Skim, int]:
    """Independent events for the pseudo-data per skim: a little more than the luminosity holds."""
    wanted: dict[Skim, int] = {}
    for skim in sample.generated:
        passes = sample.process.passes.get(skim, 1)
        held = sample.xsec_pb * settings.lumi_pb[skim] / passes
        wanted[skim] = math.ceil(MARGIN[passes > 1] * held) + 200
    return wanted


def _write_simulation(sample: Sample, output: Path) -> None:
    process = sample.process
    for skim, events in sample.events.items():
        constants = {
            **dict.fromkeys(_ONES, 1.0),
            "runNumber": MC_RUN,
            "channelNumber": process.dsid,
            "XSection": sample.xsec_pb,
            "SumWeights": sample.sumw[skim],
        }
        columns = {k: events[k] for k in events.fields if k not in ("index", "number", "weight")}
        columns |= {"eventNumber": events["number"], "mcWeight": events["weight"]}
        path = output / skim / "MC" / f"mc_{process.dsid}.{process.name}.{skim}.root"
        write_mini(path, _records(columns), constants)
        logger.info("%s: %d events of %d generated", path.name, len(events), sample.generated[skim])


def _records(columns: dict[str, Any]) -> ak.Array:
    return ak.zip(columns, depth_limit=1)


def draw(sample: Sample, skim: Skim, lumi_pb: float, rng: np.random.Generator) -> ak.Array:
    """Events of one process as a luminosity would hold them: a Poisson number, unweighted, none twice.

    Args:
        sample: an independent sample of the process.
        skim: the skim.
        lumi_pb: luminosity [1/pb].
        rng: source of random numbers.
    """
    weights = np.asarray(sample.events[skim]["weight"], dtype=np.float64)
    expected = sample.xsec_pb * lumi_pb / sample.sumw[skim] * weights.sum()
    number = int(rng.poisson(expected))
    if number > len(weights):
        logger.warning(
            "%s: pseudo-data wants %d events of %d in the %s skim and takes all",
            sample.process.name,
            number,
            len(weights),
            skim,
        )
        number = len(weights)
    if number == 0:
        return sample.events[skim][:0]
    chosen = rng.choice(len(weights), size=number, replace=False, p=weights / weights.sum())
    return sample.events[skim][chosen]


def _write_data(parts: list[ak.Array], skim: Skim, output: Path, rng: np.random.Generator) -> int:
    """Write the pseudo-data of a skim as the release has collision data; returns the number of events."""
    events = ak.concatenate(parts)
    events = events[rng.permutation(len(events))]
    hidden = ("index", "number", "weight", *_TRUTH)
    columns = {k: events[k] for k in events.fields if k not in hidden}
    columns |= {k: ak.zeros_like(columns[k]) for k in _SYSTEMATICS}
    columns["eventNumber"] = np.arange(1, len(events) + 1, dtype=np.int32)
    # As in the release's collision data: all weights 0, truth empty, channelNumber the run's.
    constants = {"runNumber": DATA_RUN, "channelNumber": DATA_RUN, "XSection": 1.0, "SumWeights": 1.0}
    write_mini(output / skim / "Data" / f"data_A.{skim}.root", _records(columns), constants)
    return len(events)


def _run(
    plans: list[tuple[Process, dict[Skim, int], list[Block]]], run_map: BlockMap, progress: Progress | None
) -> Iterator[Sample]:
    """Simulate the planned blocks; a sample is handed out as soon as its last block is done."""
    blocks = [block for _, _, own in plans for block in own]
    total, done = sum(block.events for block in blocks), 0
    results = iter(run_map(simulate_block, blocks))
    for process, wanted, own in plans:
        finished = []
        for _ in own:
            result = next(results)
            done += result.block.events
            finished.append(result)
            if progress is not None:
                progress(done, total, process.name)
        yield collect(process, finished, wanted)


def _catalog_entry(sample: Sample) -> dict[str, Any]:
    process = sample.process
    entry: dict[str, Any] = {
        "name": process.name,
        "group": process.group,
        "kind": process.kind,
        "xsec_pb": float(f"{sample.xsec_pb:.7g}"),
        "xsec_source": process.cross_section.source,
        "sumw": dict(sample.sumw),
        "n_generated": dict(sample.generated),
        "n_events": {skim: len(events) for skim, events in sample.events.items()},
        "model": dict(process.model),
        "notes": list(process.notes),
    }
    if process.boson_pt is not None:
        low, high = process.boson_pt
        text = f"true pT of the Z above {low:g} GeV" if low > 0 else f"true pT of the Z below {high:g} GeV"
        entry["notes"].append(f"only {text}; cross section and sum of weights are those without this window")
    return entry


def _write_catalog(
    path: Path, entries: dict[int, dict[str, Any]], settings: SimulationSettings, data: dict[Skim, int]
) -> None:
    used = {entry["group"] for entry in entries.values()}
    groups = {
        key: {"label": group.label, "color": group.color, "kind": group.kind, "order": group.order}
        for key, group in GROUPS.items()
        if key in used
    }
    catalog = {
        "format": 1,
        "name": settings.sample,
        "release": "2020",
        "sample": "demo-simulation",
        "tree": "mini",
        "energy_unit": "MeV",
        "sqrt_s_GeV": 13000,
        "lumi_pb": {skim: settings.lumi_pb[skim] for skim in settings.skims},
        "groups": groups,
        "samples": dict(sorted(entries.items())),
        "generator": {
            "pythia": pythia_version(),
            "seed": settings.seed,
            "block_size": settings.block_size,
            "settings": list(COMMON_SETTINGS),
            "pseudo_data_events": dict(data),
        },
    }
    text = "# Written by run_analysis.py simulate: Pythia 8 simulation, no ATLAS data.\n"
    path.write_text(text + yaml.safe_dump(catalog, sort_keys=False, width=110), encoding="utf-8")


def simulate(
    settings: SimulationSettings,
    *,
    output: Path,
    map: BlockMap = map,
    progress: Progress | None = None,
) -> Path:
    """Simulate a sample in the release's layout.

    Args:
        settings: which events, how many, which seed.
        output: directory that receives `<skim>/MC`, `<skim>/Data` and `catalog.yaml`.
        map: runs blocks in order: the built-in `map`, `ProcessPoolExecutor.map`, or for a Dask client
            `lambda function, blocks: client.gather(client.map(function, list(blocks), pure=False))`.
        progress: called with (events done, events in all, process) after each block.

    Returns:
        Path of the catalogue.

    Raises:
        InputError: Pythia, fastjet or ROOT is not installed.
        FailureError: Pythia refused its settings or stopped.
    """
    output.mkdir(parents=True, exist_ok=True)
    sample_processes = SAMPLES[settings.sample]
    processes = [p for p in sample_processes if not settings.processes or p.name in settings.processes]
    plans = []
    for process in processes:
        wanted = _wanted(process, settings)
        if wanted:
            plans.append((process, wanted, plan(process, wanted, stream="simulation", settings=settings)))
    entries: dict[int, dict[str, Any]] = {}
    backgrounds = []
    for sample in _run(plans, map, progress):
        _write_simulation(sample, output)
        entries[sample.process.dsid] = _catalog_entry(sample)
        if sample.process.kind == "background":
            backgrounds.append(sample)
    counts: dict[Skim, int] = {}
    if settings.pseudo_data and backgrounds:
        counts = _pseudo_data(backgrounds, settings, output, map, progress)
    path = output / "catalog.yaml"
    _write_catalog(path, entries, settings, counts)
    return path


def _pseudo_data(
    samples: list[Sample],
    settings: SimulationSettings,
    output: Path,
    run_map: BlockMap,
    progress: Progress | None,
) -> dict[Skim, int]:
    """Draw pseudo-data from independent events of the same Standard Model processes."""
    plans = []
    for sample in samples:
        wanted = _wanted_for_data(sample, settings)
        plans.append((sample.process, wanted, plan(sample.process, wanted, stream="data", settings=settings)))
    rng = np.random.default_rng([settings.seed, 1])
    parts: dict[Skim, list[ak.Array]] = {skim: [] for skim in settings.skims}
    for simulated, independent in zip(samples, _run(plans, run_map, progress), strict=True):
        same = Sample(
            independent.process,
            simulated.xsec_pb,
            independent.generated,
            independent.sumw,
            independent.events,
        )
        for skim in same.events:
            parts[skim].append(draw(same, skim, settings.lumi_pb[skim], rng))
    return {skim: _write_data(found, skim, output, rng) for skim, found in parts.items() if found}

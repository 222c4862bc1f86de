"""The samples that can be simulated, each a table of processes.

`demo` is small enough to be shipped. `study` is for what a score does in its far tail: several times the demo's
events, Z and diboson events in slices of transverse momentum, and events with a misidentified lepton passed through
the detector many times, so that no single heavy event decides what is left of one in a thousand. `second-signals`,
`third-signals` and `fourth-signals` were made after a recipe of the search was fixed.
"""

from dataclasses import replace
from typing import Final, Literal, get_args

from fileset.simulation.later_signals import FOURTH_SIGNALS, SECOND_SIGNALS, THIRD_SIGNALS
from fileset.simulation.processes import PROCESSES, CrossSection, Process

__all__ = ["BY_NAME", "SAMPLES", "SampleName"]

SampleName = Literal["demo", "study", "second-signals", "third-signals", "fourth-signals"]

_DEMO: Final = {process.name: process for process in PROCESSES}
_HUGE = 1e9

# Above 100 GeV the matrix element gives 23.0 pb and the parton shower of the inclusive Z samples, which is corrected
# to it, 22.8 pb (leading order, per flavour): the factor is theirs.
_Z_AND_PARTON = CrossSection(1.324, "Pythia 8 LO x 1.324, as for the inclusive Z samples", of_pythia=True)
# Slices (from, to, least pT of the hard process) of the Z's true pT [GeV].
_HARD_Z: Final = ((100.0, 250.0, 60.0), (250.0, _HUGE, 180.0))


def _z_and_parton(flavour: str, dsid: int, lepton: int, generated: dict[str, int]) -> tuple[Process, ...]:
    """Z with a hard parton, in slices of its true pT."""
    return tuple(
        Process(
            name=f"{flavour}_parton_ptv{low:.0f}",
            dsid=dsid + number,
            group="Zjets",
            pythia=(
                "WeakBosonAndParton:qqbar2gmZg = on",
                "WeakBosonAndParton:qg2gmZq = on",
                "23:mMin = 60",
                "23:mMax = 120",
                f"PhaseSpace:pTHatMin = {hard:g}",
                "23:onMode = off",
                f"23:onIfAny = {lepton}",
            ),
            cross_section=_Z_AND_PARTON,
            generated=generated,
            passes={"3lep": 60} if "3lep" in generated else {},
            boson_pt=(low, high),
            notes=("leading order with one hard parton", f"hard process above pT = {hard:g} GeV"),
        )
        for number, (low, high, hard) in enumerate(_HARD_Z)
    )


def _diboson(
    name: str, dsid: int, factor: float, low: dict[str, int], high: dict[str, int]
) -> tuple[Process, ...]:
    """A diboson process below and above 150 GeV of transverse momentum in the hard process."""
    whole = _DEMO[name]
    source = f"Pythia 8 LO x {factor:g}, which is {whole.cross_section.source} for all pT"
    slices = (("pt0_150", "pTHatMax", low), ("pt150", "pTHatMin", high))
    return tuple(
        replace(
            whole,
            name=f"{name}_{part}",
            dsid=dsid + number,
            pythia=(*whole.pythia, f"PhaseSpace:{bound} = 150"),
            cross_section=CrossSection(factor, source, of_pythia=True),
            generated=generated,
        )
        for number, (part, bound, generated) in enumerate(slices)
    )


def _more(name: str, generated: dict[str, int], passes: dict[str, int] | None = None) -> Process:
    """A process of the demo with other numbers of events."""
    return replace(_DEMO[name], generated=generated, passes=passes or _DEMO[name].passes)


def _drell_yan(flavour: str, dsid: int, lepton: int) -> tuple[Process, ...]:
    many = {"3lep": 40}
    return (
        _more(f"{flavour}_m40_60", {"2lep": 80_000, "3lep": 80_000}, many),
        _more(flavour, {"2lep": 210_000, "3lep": 400_000}, many),
        *_z_and_parton(flavour, dsid, lepton, {"2lep": 40_000, "3lep": 40_000}),
        _more(f"{flavour}_m120", {"2lep": 35_000, "3lep": 80_000}, many),
        _more(f"{flavour}_m400", {"2lep": 10_000, "3lep": 15_000}, many),
    )


_STUDY_BACKGROUND = (
    *_drell_yan("Zee", 900105, 11),
    *_drell_yan("Zmumu", 900115, 13),
    _more("Ztautau", {"2lep": 160_000}),
    *_z_and_parton("Ztautau", 900123, 15, {"2lep": 40_000}),
    _more("Ztautau_m120", {"2lep": 60_000}),
    _more("Wlnu", {"2lep": 160_000}, {"2lep": 30}),
    _more("ttbar_lep", {"2lep": 60_000, "3lep": 60_000}, {"3lep": 20}),
    _more("ttbar_ljets", {"2lep": 50_000}, {"2lep": 10}),
    _more("llvv", {"2lep": 50_000, "3lep": 50_000}, {"3lep": 20}),
    *_diboson("lllv", 900501, 2.191, {"2lep": 30_000, "3lep": 200_000}, {"2lep": 10_000, "3lep": 120_000}),
    *_diboson("llll", 900511, 1.6, {"2lep": 20_000, "3lep": 60_000}, {"2lep": 8_000, "3lep": 30_000}),
    _more("Wqqll", {"2lep": 10_000}),
    _more("ggH125_WW2lep", {"2lep": 12_000}),
    _more("ggH125_ZZ4lep", {"2lep": 5_000, "3lep": 8_000}),
    _more("ggH125_tautau", {"2lep": 40_000}),
)


def _signals() -> tuple[Process, ...]:
    """The demo's signals with three times its events; gluino pairs, slow and many, with as many."""
    return tuple(
        _more(p.name, {skim: n * (1 if p.group == "GG_ttn1" else 3) for skim, n in p.generated.items()})
        for p in PROCESSES
        if p.kind == "signal"
    )


SAMPLES: Final[dict[SampleName, tuple[Process, ...]]] = {
    "demo": PROCESSES,
    "study": (*_STUDY_BACKGROUND, *_signals()),
    "second-signals": SECOND_SIGNALS,
    "third-signals": THIRD_SIGNALS,
    "fourth-signals": FOURTH_SIGNALS,
}
"""The processes of each sample, backgrounds first."""

# A process that two samples share differs in its numbers of events alone; those here are the first sample's.
BY_NAME: Final = {
    process.name: process for name in reversed(get_args(SampleName)) for process in SAMPLES[name]
}

"""Signals that were made after the recipe of the search had been fixed: other masses, and other families.

The commit that adds this file follows the one that fixes the recipe (docs/anomaly-search.md); they are evaluated once.
"""

from dataclasses import replace
from typing import Any, Final

from fileset.simulation.processes import PROCESSES, CrossSection, Process

__all__ = ["SECOND_SIGNALS"]

_FIRST: Final = {process.name: process for process in PROCESSES}
_LEADING_ORDER = CrossSection(1.0, "Pythia 8 LO", of_pythia=True)
_Z_TO_LEPTONS = ("23:onMode = off", "23:onIfAny = 11 13 15")
_W_TO_LEPTONS = ("24:onMode = off", "24:onIfAny = 11 13 15")
_TWO = {"2lep": 5_000}
_BOTH = {"2lep": 6_000, "3lep": 10_000}


def _spectrum(
    name: str, new: str, dsid: int, masses: dict[tuple[int, ...], float], generated: dict[str, int]
) -> Process:
    """A supersymmetric process of the first set with other masses [GeV] of some particles."""
    first = _FIRST[name]
    old: Any = first.slha
    heavier = {code: mass for codes, mass in masses.items() for code in codes}
    return replace(
        first,
        name=new,
        dsid=dsid,
        slha={**old, "mass": {**old["mass"], **heavier}},
        model={f"m_{codes[0]}_GeV": mass for codes, mass in masses.items()},
        cross_section=_LEADING_ORDER,
        generated=generated,
    )


def _resonance(name: str, new: str, dsid: int, old: float, mass: float) -> Process:
    """A resonance of the first set at another mass [GeV]."""
    first = _FIRST[name]
    exchanged = {f"m0 = {old:g}": f"m0 = {mass:g}", f"mHatMin = {old / 2:g}": f"mHatMin = {mass / 2:g}"}
    settings = first.pythia
    for text, other in exchanged.items():
        settings = tuple(setting.replace(text, other) for setting in settings)
    return replace(
        first,
        name=new,
        dsid=dsid,
        pythia=settings,
        model={"m_GeV": mass},
        cross_section=_LEADING_ORDER,
        generated=_BOTH if "3lep" in first.generated else _TWO,
    )


def _family(
    name: str,
    dsid: int,
    group: str,
    mass: float,
    settings: tuple[str, ...],
    generated: dict[str, int],
    note: str,
) -> Process:
    """A family that the first set does not have."""
    return Process(
        name=name,
        dsid=dsid,
        group=group,
        pythia=settings,
        cross_section=_LEADING_ORDER,
        generated=generated,
        model={"m_GeV": mass},
        notes=(note,),
    )


_CHARGINOS, _LIGHTEST = (1000024, 1000023), (1000022,)
_SLEPTONS = (1000011, 1000013, 1000015, 2000011, 2000013, 2000015)

_OTHER_MASSES = (
    _spectrum(
        "SlepSlep_direct_300p5_1p0_2L8",
        "SlepSlep_500_200",
        901001,
        {_SLEPTONS: 500.0, _LIGHTEST: 200.0},
        _TWO,
    ),
    _spectrum(
        "C1C1_SlepSnu_x0p50_400p0_100p0_2L8", "C1C1_SlepSnu_700_100", 901002, {(1000024,): 700.0}, _TWO
    ),
    _spectrum("C1N2_WZ_450_300", "C1N2_WZ_350_150", 901003, {_CHARGINOS: 350.0, _LIGHTEST: 150.0}, _BOTH),
    _spectrum("C1N2_WZ_800_50", "C1N2_WZ_600_300", 901004, {_CHARGINOS: 600.0, _LIGHTEST: 300.0}, _BOTH),
    _spectrum(
        "GG_ttn1_1200_5000_1",
        "GG_ttn1_1600_600",
        901005,
        {(1000021,): 1600.0, _LIGHTEST: 600.0},
        {"2lep": 8_000, "3lep": 40_000},
    ),
    _spectrum(
        "TT_directTT_500_1", "TT_directTT_700_200", 901006, {(1000006,): 700.0, _LIGHTEST: 200.0}, _TWO
    ),
    _resonance("ZPrime2000_ee", "ZPrime1250_ee", 901007, 2000, 1250),
    _resonance("ZPrime2000_mumu", "ZPrime3000_mumu", 901008, 2000, 3000),
    _resonance("ZPrime1000_tt", "ZPrime1500_tt", 901009, 1000, 1500),
    _resonance("RS_G_ZZ_llll_c10_m0500", "RS_G_ZZ_llll_m0800", 901010, 500, 800),
    _resonance("Gee_01_750", "Gee_01_1500", 901011, 750, 1500),
    _resonance("dmV_Zll_MET40_DM1_MM300", "dmV_Zll_MM600", 901012, 300, 600),
    _resonance("WR_lN_2000_1000", "WR_lN_1500_1000", 901013, 2000, 1500),
)

_OTHER_FAMILIES = (
    _family(
        "HppHmm_400",
        901101,
        "Hpp_ll",
        400.0,
        (
            "LeftRightSymmmetry:ffbar2HLHL = on",
            "9900041:m0 = 400",
            "9900041:onMode = off",
            "9900041:onIfAny = 11 13",
        ),
        _BOTH,
        "pairs of doubly charged scalars, each to two like-sign electrons or muons",
    ),
    _family(
        "Wprime_WZ_1000",
        901102,
        "Wprime_WZ",
        1000.0,
        (
            "NewGaugeBoson:ffbar2Wprime = on",
            "34:m0 = 1000",
            "Wprime:coup2WZ = 1",
            "34:onMode = off",
            "34:onIfAny = 23",
            *_W_TO_LEPTONS,
            *_Z_TO_LEPTONS,
        ),
        _BOTH,
        "W and Z to leptons",
    ),
    _family(
        "LQ_mumu_600",
        901103,
        "LQ_mumu",
        600.0,
        (
            "LeptoQuark:gg2LQLQbar = on",
            "LeptoQuark:qqbar2LQLQbar = on",
            "42:m0 = 600",
            "42:0:products = 4 13",
        ),
        _TWO,
        "pairs of scalar leptoquarks, each to a muon and a charm quark",
    ),
    _family(
        "bprime_tW_800",
        901104,
        "bprime_tW",
        800.0,
        (
            "FourthBottom:gg2bPrimebPrimebar = on",
            "FourthBottom:qqbar2bPrimebPrimebar = on",
            "7:m0 = 800",
            "7:onMode = off",
            "7:onIfMatch = 6 24",
        ),
        {"2lep": 12_000, "3lep": 40_000},
        "pairs of heavy bottom quarks, each to tW, W to anything",
    ),
    _family(
        "estar_e_1000",
        901105,
        "estar",
        1000.0,
        (
            "ExcitedFermion:qqbar2eStare = on",
            "4000011:m0 = 1000",
            "ExcitedFermion:Lambda = 3000",
            "4000011:onMode = off",
            "4000011:onIfMatch = 22 11",
        ),
        _TWO,
        "an electron and an excited electron, that goes to an electron and a photon",
    ),
)

SECOND_SIGNALS: Final = (*_OTHER_MASSES, *_OTHER_FAMILIES)

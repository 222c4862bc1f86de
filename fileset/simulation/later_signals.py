"""Signals that were made after a recipe of the search had been fixed: other masses, and other families.

The commit that adds a set follows the one that fixes the recipe (docs/anomaly-search.md); it is evaluated once.
"""

from dataclasses import replace
from typing import Any, Final

from fileset.simulation.processes import PROCESSES, CrossSection, Process

__all__ = ["FOURTH_SIGNALS", "SECOND_SIGNALS", "THIRD_SIGNALS"]

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


def _heavier(settings: tuple[str, ...], mass: int) -> tuple[str, ...]:
    """The first particle that is given a mass, at another mass [GeV]."""
    first = next(setting for setting in settings if ":m0 = " in setting)
    return tuple(
        f"{setting.partition(' = ')[0]} = {mass}" if setting == first else setting for setting in settings
    )


_CHARGINOS, _LIGHTEST = (1000024, 1000023), (1000022,)
_SLEPTONS = (1000011, 1000013, 1000015, 2000011, 2000013, 2000015)

_SECOND_MASSES = (
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

_SECOND_FAMILIES = (
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

SECOND_SIGNALS: Final = (*_SECOND_MASSES, *_SECOND_FAMILIES)

_THIRD_MASSES = (
    _spectrum(
        "SlepSlep_direct_300p5_1p0_2L8",
        "SlepSlep_400_250",
        902001,
        {_SLEPTONS: 400.0, _LIGHTEST: 250.0},
        _TWO,
    ),
    _spectrum(
        "C1C1_SlepSnu_x0p50_400p0_100p0_2L8", "C1C1_SlepSnu_550_100", 902002, {(1000024,): 550.0}, _TWO
    ),
    _spectrum("C1N2_WZ_450_300", "C1N2_WZ_400_200", 902003, {_CHARGINOS: 400.0, _LIGHTEST: 200.0}, _BOTH),
    _spectrum("C1N2_WZ_800_50", "C1N2_WZ_1000_400", 902004, {_CHARGINOS: 1000.0, _LIGHTEST: 400.0}, _BOTH),
    _spectrum(
        "GG_ttn1_1200_5000_1",
        "GG_ttn1_1400_800",
        902005,
        {(1000021,): 1400.0, _LIGHTEST: 800.0},
        {"2lep": 8_000, "3lep": 40_000},
    ),
    _spectrum(
        "TT_directTT_500_1", "TT_directTT_600_300", 902006, {(1000006,): 600.0, _LIGHTEST: 300.0}, _TWO
    ),
    _resonance("ZPrime2000_ee", "ZPrime800_ee", 902007, 2000, 800),
    _resonance("ZPrime2000_mumu", "ZPrime1500_mumu", 902008, 2000, 1500),
    _resonance("ZPrime1000_tt", "ZPrime2000_tt", 902009, 1000, 2000),
    _resonance("RS_G_ZZ_llll_c10_m0500", "RS_G_ZZ_llll_m0650", 902010, 500, 650),
    _resonance("Gee_01_750", "Gee_01_1000", 902011, 750, 1000),
    _resonance("dmV_Zll_MET40_DM1_MM300", "dmV_Zll_MM450", 902012, 300, 450),
    _resonance("WR_lN_2000_1000", "WR_lN_3000_1000", 902013, 2000, 3000),
)

_THIRD_FAMILIES = (
    _family(
        "tprime_bW_900",
        902101,
        "tprime_bW",
        900.0,
        (
            "FourthTop:gg2tPrimetPrimebar = on",
            "FourthTop:qqbar2tPrimetPrimebar = on",
            "8:m0 = 900",
            "7:m0 = 1200",
            "8:onMode = off",
            "8:onIfMatch = 5 24",
            *_W_TO_LEPTONS,
        ),
        _TWO,
        "pairs of heavy top quarks, each to bW, W to leptons",
    ),
    _family(
        "mustar_mu_1500",
        902102,
        "mustar",
        1500.0,
        (
            "ExcitedFermion:qqbar2muStarmu = on",
            "4000013:m0 = 1500",
            "ExcitedFermion:Lambda = 4000",
            "4000013:onMode = off",
            "4000013:onIfMatch = 23 13",
            *_Z_TO_LEPTONS,
        ),
        _BOTH,
        "a muon and an excited muon, that goes to a muon and a Z, Z to leptons",
    ),
    _family(
        "LQ_ee_800",
        902103,
        "LQ_ee",
        800.0,
        (
            "LeptoQuark:gg2LQLQbar = on",
            "LeptoQuark:qqbar2LQLQbar = on",
            "42:m0 = 800",
            "42:0:products = 2 11",
        ),
        _TWO,
        "pairs of scalar leptoquarks, each to an electron and an up quark",
    ),
    _family(
        "HppHmm_right_600",
        902104,
        "Hpp_right",
        600.0,
        (
            "LeftRightSymmmetry:ffbar2HRHR = on",
            "9900042:m0 = 600",
            "9900042:onMode = off",
            "9900042:onIfAny = 15",
        ),
        _BOTH,
        "pairs of right-handed doubly charged scalars, each to two like-sign tau leptons",
    ),
    _family(
        "H_ZZ_400",
        902105,
        "H_ZZ",
        400.0,
        (
            "Higgs:useBSM = on",
            "HiggsBSM:gg2H2 = on",
            "35:m0 = 400",
            "35:onMode = off",
            "35:onIfMatch = 23 23",
            *_Z_TO_LEPTONS,
        ),
        _BOTH,
        "a heavy neutral scalar to ZZ, Z to leptons",
    ),
    _family(
        "contact_ee_8000",
        902106,
        "contact_ee",
        8000.0,
        (
            "ContactInteractions:QCffbar2eebar = on",
            "ContactInteractions:Lambda = 8000",
            "ContactInteractions:etaLL = -1",
            "PhaseSpace:mHatMin = 600",
        ),
        _TWO,
        "electron pairs above 600 GeV with a contact interaction of quarks and electrons; m is its scale",
    ),
)

THIRD_SIGNALS: Final = (*_THIRD_MASSES, *_THIRD_FAMILIES)

# The families of all sets at masses of their own.
FOURTH_SIGNALS: Final = (
    _spectrum(
        "SlepSlep_direct_300p5_1p0_2L8",
        "SlepSlep_350_150",
        903001,
        {_SLEPTONS: 350.0, _LIGHTEST: 150.0},
        _TWO,
    ),
    _spectrum(
        "C1C1_SlepSnu_x0p50_400p0_100p0_2L8", "C1C1_SlepSnu_600_100", 903002, {(1000024,): 600.0}, _TWO
    ),
    _spectrum("C1N2_WZ_450_300", "C1N2_WZ_500_300", 903003, {_CHARGINOS: 500.0, _LIGHTEST: 300.0}, _BOTH),
    _spectrum("C1N2_WZ_800_50", "C1N2_WZ_700_200", 903004, {_CHARGINOS: 700.0, _LIGHTEST: 200.0}, _BOTH),
    _spectrum(
        "TT_directTT_500_1", "TT_directTT_800_400", 903005, {(1000006,): 800.0, _LIGHTEST: 400.0}, _TWO
    ),
    _resonance("ZPrime2000_ee", "ZPrime1000_ee", 903006, 2000, 1000),
    _resonance("ZPrime1000_tt", "ZPrime1250_tt", 903007, 1000, 1250),
    _resonance("RS_G_ZZ_llll_c10_m0500", "RS_G_ZZ_llll_m0900", 903008, 500, 900),
    _resonance("dmV_Zll_MET40_DM1_MM300", "dmV_Zll_MM200", 903009, 300, 200),
    _resonance("WR_lN_2000_1000", "WR_lN_2500_1000", 903010, 2000, 2500),
    *(
        replace(process, name=name, dsid=903100 + number, pythia=settings, model={"m_GeV": mass})
        for number, (process, name, mass, settings) in enumerate(
            (family, f"{family.name.rpartition('_')[0]}_{mass}", float(mass), _heavier(family.pythia, mass))
            for family, mass in zip(
                (*_SECOND_FAMILIES[:3], *_THIRD_FAMILIES[:2], _THIRD_FAMILIES[4]),
                (500, 700, 900, 700, 1000, 300),
                strict=True,
            )
        )
    ),
)

"""The processes that can be simulated: Pythia settings, cross sections and what is approximated in each.

Cross sections in pb. Pythia's own value contains the branching ratios forced on t, W, Z, H, Z', G* and W_R
that the hard process makes, but not those of W and Z from decays of SUSY particles or heavy neutrinos.
"""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["COMMON_SETTINGS", "GROUPS", "PROCESSES", "CrossSection", "Group", "Process"]

BR_W = 0.3258  # W to charged leptons, three flavours (PDG 2022)
BR_Z = 0.10097  # Z to charged leptons, three flavours (PDG 2022)
TTBAR = 831.76  # NNLO+NNLL, m_t = 172.5 GeV (Top++ 2.0)

COMMON_SETTINGS = (
    "Print:quiet = on",
    "Beams:eCM = 13000.",
    "PartonLevel:MPI = off",  # the underlying event is part of the detector's noise: five times faster
    "TauDecays:mode = 0",  # no spin correlations in τ decays: thirty times faster
    "ParticleDecays:limitTau0 = on",
    "ParticleDecays:tau0Max = 10.",  # mm: what flies farther meets the detector
)


@dataclass(frozen=True)
class CrossSection:
    """How a sample's cross section is found.

    Attributes:
        value: the cross section [pb], or the factor on Pythia's leading-order value.
        source: where it comes from, for people.
        of_pythia: whether `value` is such a factor.
    """

    value: float
    source: str
    of_pythia: bool = False


@dataclass(frozen=True)
class Process:
    """One simulated sample.

    Attributes:
        name: short name, part of the file's name.
        dsid: the release's dataset number where the release has this process, else 900xxx.
        group: key of `GROUPS`.
        pythia: settings beyond `COMMON_SETTINGS`.
        cross_section: rule for the cross section.
        generated: events to generate for each skim; a skim that is not named is not written.
        passes: how many times each event passes the detector, by skim (1 where not named).
        boson_pt: window of the Z's true pT [GeV] outside which events are dropped (but counted).
        slha: SUSY spectrum: masses by PDG code and decays, see `spectrum.py`.
        model: parameters of a signal.
        notes: what is approximated.
    """

    name: str
    dsid: int
    group: str
    pythia: tuple[str, ...]
    cross_section: CrossSection
    generated: dict[str, int]
    passes: dict[str, int] = field(default_factory=dict)
    boson_pt: tuple[float, float] | None = None
    slha: dict[str, dict[int, object]] | None = None
    model: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """`background` or `signal`."""
        return GROUPS[self.group].kind


@dataclass(frozen=True)
class Group:
    """How a group of processes is shown."""

    label: str
    color: str
    kind: Literal["background", "signal"]
    order: int


# Labels, colours and order are those of the catalogue atlas-2020: a figure looks the same for both.
GROUPS = {
    "Higgs": Group(r"Higgs", "#bd1f01", "background", 1),
    "diboson": Group(r"Diboson", "#832db6", "background", 4),
    "Wjets": Group(r"$W$+jets", "#92dadd", "background", 5),
    "ttbar": Group(r"$t\bar{t}$", "#ffa90e", "background", 6),
    "Zjets": Group(r"$Z$+jets", "#3f90da", "background", 7),
    "SUSYSlepSlep": Group(r"$\tilde{\ell}\tilde{\ell}$", "#0072b2", "signal", 20),
    "SUSYC1C1": Group(r"$\tilde{\chi}^{\pm}_{1}\tilde{\chi}^{\mp}_{1}$", "#009e73", "signal", 21),
    "SUSYC1N2": Group(r"$\tilde{\chi}^{\pm}_{1}\tilde{\chi}^{0}_{2}$", "#d55e00", "signal", 22),
    "GG_ttn1": Group(
        r"$\tilde{g}\tilde{g}\to t\bar{t}t\bar{t}\,\tilde{\chi}^{0}_{1}\tilde{\chi}^{0}_{1}$",
        "#cc79a7",
        "signal",
        23,
    ),
    "TT_directTT": Group(
        r"$\tilde{t}\tilde{t}\to t\bar{t}\,\tilde{\chi}^{0}_{1}\tilde{\chi}^{0}_{1}$", "#7a1f5c", "signal", 24
    ),
    "Zprime_ee": Group(r"$Z'\to ee$", "#000000", "signal", 25),
    "Zprime_mumu": Group(r"$Z'\to\mu\mu$", "#4d4d4d", "signal", 26),
    "Zprime_tt": Group(r"$Z'\to t\bar{t}$", "#8c6d1f", "signal", 27),
    "RS_G_ZZ": Group(r"$G^{*}\to ZZ\to 4\ell$", "#1b4f72", "signal", 28),
    "G_ee": Group(r"$G^{*}\to ee$", "#6a3d9a", "signal", 29),
    "G_mumu": Group(r"$G^{*}\to\mu\mu$", "#b15928", "signal", 30),
    "dmV_Zll": Group(r"DM + $Z\to\ell\ell$", "#117733", "signal", 31),
    "WR_lN": Group(r"$W_{R}\to\ell N$", "#aa4499", "signal", 32),
    "Hpp_ll": Group(r"$H^{\pm\pm}H^{\mp\mp}\to 4\ell$", "#44aa99", "signal", 33),
    "Wprime_WZ": Group(r"$W'\to WZ\to 3\ell\nu$", "#882255", "signal", 34),
    "LQ_mumu": Group(r"$LQ\,\overline{LQ}\to\mu\mu cc$", "#999933", "signal", 35),
    "bprime_tW": Group(r"$b'\bar{b}'\to tWtW$", "#332288", "signal", 36),
    "estar": Group(r"$e^{*}e\to ee\gamma$", "#e17c05", "signal", 37),
    "tprime_bW": Group(r"$t'\bar{t}'\to bWbW$", "#661100", "signal", 38),
    "mustar": Group(r"$\mu^{*}\mu\to\mu\mu Z$", "#888888", "signal", 39),
    "LQ_ee": Group(r"$LQ\,\overline{LQ}\to ee uu$", "#6699cc", "signal", 40),
    "Hpp_right": Group(r"$H^{\pm\pm}_{R}H^{\mp\mp}_{R}\to 4\tau$", "#ddcc77", "signal", 41),
    "H_ZZ": Group(r"$H\to ZZ\to 4\ell$", "#88ccee", "signal", 42),
    "contact_ee": Group(r"contact $ee$", "#2f4b7c", "signal", 43),
}

_Z_TO_LEPTONS = ("23:onMode = off", "23:onIfAny = 11 13 15")
_W_TO_LEPTONS = ("24:onMode = off", "24:onIfAny = 11 13 15")
_DRELL_YAN = CrossSection(
    1.324,
    "Pythia 8 LO x 1.324, which is 1950.6 pb per flavour above 60 GeV as in the release",
    of_pythia=True,
)
_HUGE = 1e9


def _drell_yan(
    name: str,
    dsid: int,
    lepton: int,
    mass: tuple[float, float],
    generated: dict[str, int],
    boson_pt: tuple[float, float] | None = None,
) -> Process:
    """Drell-Yan pairs in a window of mass and, optionally, of the pair's pT."""
    note = (
        "leading order plus parton shower with the first emission corrected; high jet multiplicities too rare"
    )
    return Process(
        name=name,
        dsid=dsid,
        group="Zjets",
        pythia=(
            "WeakSingleBoson:ffbar2gmZ = on",
            f"PhaseSpace:mHatMin = {mass[0]:g}",
            f"PhaseSpace:mHatMax = {mass[1]:g}",
            "23:onMode = off",
            f"23:onIfAny = {lepton}",
        ),
        cross_section=_DRELL_YAN,
        generated=generated,
        passes={"3lep": 8} if "3lep" in generated else {},
        boson_pt=boson_pt,
        notes=(note,),
    )


def _drell_yan_flavour(flavour: str, dsid: int, private: int, lepton: int) -> tuple[Process, ...]:
    """The slices of Z → ee or μμ: 40-60, 60-120 below and above pT = 100 GeV, 120-400 and above 400 GeV."""
    peak = (60.0, 120.0)
    return (
        _drell_yan(f"{flavour}_m40_60", private, lepton, (40, 60), {"2lep": 20_000, "3lep": 20_000}),
        _drell_yan(flavour, dsid, lepton, peak, {"2lep": 42_000, "3lep": 300_000}, (0, 100)),
        _drell_yan(
            f"{flavour}_ptv100", private + 1, lepton, peak, {"2lep": 80_000, "3lep": 80_000}, (100, _HUGE)
        ),
        _drell_yan(f"{flavour}_m120", private + 2, lepton, (120, 400), {"2lep": 7_000, "3lep": 40_000}),
        _drell_yan(f"{flavour}_m400", private + 3, lepton, (400, 13000), {"2lep": 2_000, "3lep": 10_000}),
    )


# Their three-lepton events are a hundredth of those of the other flavours and left out.
_DRELL_YAN_TAU = (
    _drell_yan("Ztautau", 361108, 15, (60, 120), {"2lep": 120_000}, (0, 100)),
    _drell_yan("Ztautau_ptv100", 900121, 15, (60, 120), {"2lep": 50_000}, (100, _HUGE)),
    _drell_yan("Ztautau_m120", 900122, 15, (120, 13000), {"2lep": 25_000}),
)

_W_FAKES = Process(
    name="Wlnu",
    dsid=900201,
    group="Wjets",
    pythia=("WeakSingleBoson:ffbar2W = on", *_W_TO_LEPTONS),
    cross_section=CrossSection(60240.0, "sum over flavours of the release's Powheg W samples (NNLO)"),
    generated={"2lep": 240_000},
    passes={"2lep": 10},
    notes=(
        "the second lepton is a misidentified hadron or photon, from heavy flavour or from another collision",
        "the 3lep skim, which needs two of these, is left out",
    ),
)

_TOP = (
    Process(
        name="ttbar_lep",
        dsid=410000,
        group="ttbar",
        pythia=("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", *_W_TO_LEPTONS),
        cross_section=CrossSection(TTBAR * BR_W**2, "NNLO+NNLL 831.76 pb x BR(W -> l nu)^2"),
        generated={"2lep": 20_000, "3lep": 60_000},
        passes={"3lep": 3},
        notes=("both W decay to leptons (the release's sample has at least one)", "leading order"),
    ),
    Process(
        name="ttbar_ljets",
        dsid=900202,
        group="ttbar",
        pythia=(
            "Top:gg2ttbar = on",
            "Top:qqbar2ttbar = on",
            "24:onMode = off",
            "24:onPosIfAny = 11 13 15",
            "24:onNegIfAny = 1 2 3 4",
        ),
        cross_section=CrossSection(
            TTBAR * 2 * BR_W * (1 - BR_W), "NNLO+NNLL 831.76 pb x 2 BR(W -> l nu) BR(W -> qq)"
        ),
        generated={"2lep": 30_000},
        passes={"2lep": 5},
        notes=("the prompt lepton is always positive", "leading order"),
    ),
)

_DIBOSON = (
    Process(
        name="llvv",
        dsid=363492,
        group="diboson",
        pythia=("WeakDoubleBoson:ffbar2WW = on", *_W_TO_LEPTONS),
        cross_section=CrossSection(118.7 * BR_W**2, "NNLO 118.7 pb x BR(W -> l nu)^2"),
        generated={"2lep": 14_000, "3lep": 20_000},
        passes={"3lep": 10},
        notes=("only WW -> l nu l nu; the release's sample also holds ZZ -> ll nu nu",),
    ),
    Process(
        name="lllv",
        dsid=363491,
        group="diboson",
        pythia=("WeakDoubleBoson:ffbar2ZW = on", *_W_TO_LEPTONS, *_Z_TO_LEPTONS),
        cross_section=CrossSection(51.11 * BR_W * BR_Z, "NNLO 51.11 pb x BR(W -> l nu) BR(Z -> ll)"),
        generated={"2lep": 8_000, "3lep": 28_000},
        notes=("Z without photon interference; the release's sample reaches down to m_ll = 4 GeV",),
    ),
    Process(
        name="llll",
        dsid=363490,
        group="diboson",
        pythia=("WeakDoubleBoson:ffbar2gmZgmZ = on", "23:mMin = 20", *_Z_TO_LEPTONS),
        cross_section=CrossSection(1.6, "Pythia 8 LO x 1.6 (NNLO 16.9 pb over LO, on shell)", of_pythia=True),
        generated={"2lep": 5_000, "3lep": 18_000},
        notes=("both pairs above 20 GeV; gluon fusion only through the factor",),
    ),
    Process(
        name="Wqqll",
        dsid=363358,
        group="diboson",
        pythia=("WeakDoubleBoson:ffbar2ZW = on", "24:onMode = off", "24:onIfAny = 1 2 3 4", *_Z_TO_LEPTONS),
        cross_section=CrossSection(51.11 * (1 - BR_W) * BR_Z, "NNLO 51.11 pb x BR(W -> qq) BR(Z -> ll)"),
        generated={"2lep": 2_500},
        notes=("Z without photon interference", "with tau leptons, unlike the release's sample"),
    ),
)

_GGF = 48.58  # pb, N3LO, m_H = 125 GeV (LHC Higgs cross section working group, YR4)


def _higgs(
    name: str, dsid: int, decay: tuple[str, ...], branching: float, text: str, generated: dict[str, int]
) -> Process:
    return Process(
        name=name,
        dsid=dsid,
        group="Higgs",
        pythia=("HiggsSM:gg2H = on", "25:m0 = 125.", "25:onMode = off", *decay),
        cross_section=CrossSection(_GGF * branching, f"N3LO 48.58 pb x {text}"),
        generated=generated,
        notes=("gluon fusion only", "no generator filter, unlike the release's sample"),
    )


_HIGGS = (
    _higgs(
        "ggH125_WW2lep",
        345324,
        ("25:onIfMatch = 24 -24", *_W_TO_LEPTONS),
        0.2137 * BR_W**2,
        "BR(H -> WW) BR(W -> l nu)^2",
        {"2lep": 4_000},
    ),
    _higgs(
        "ggH125_ZZ4lep",
        345060,
        ("25:onIfMatch = 23 23", *_Z_TO_LEPTONS),
        0.02619 * BR_Z**2,
        "BR(H -> ZZ) BR(Z -> ll)^2",
        {"2lep": 2_000, "3lep": 4_000},
    ),
    _higgs(
        "ggH125_tautau",
        341122,
        ("25:onIfMatch = 15 -15",),
        0.0627,
        "BR(H -> tau tau)",
        {"2lep": 25_000},
    ),
)

_SLEPTONS = (1000011, 1000013, 1000015, 2000011, 2000013, 2000015)


def _slepton_decays(sleptons: tuple[int, ...]) -> dict[int, object]:
    return {code: ((1.0, (code % 100, 1000022)),) for code in sleptons}


def _chargino_neutralino(mass: float, lightest: float, dsid: int) -> Process:
    return Process(
        name=f"C1N2_WZ_{mass:.0f}_{lightest:.0f}",
        dsid=dsid,
        group="SUSYC1N2",
        pythia=(
            "SUSY:qqbar2chi+-chi0 = on",
            "SUSY:idA = 1000024",
            "SUSY:idB = 1000023",
            *_W_TO_LEPTONS,
            *_Z_TO_LEPTONS,
        ),
        cross_section=CrossSection(
            1.57 * BR_W * BR_Z, "Pythia 8 LO x 1.57 x BR(W -> l nu) BR(Z -> ll)", of_pythia=True
        ),
        generated={"2lep": 2_500, "3lep": 5_000},
        slha={
            "mass": {1000024: mass, 1000023: mass, 1000022: lightest},
            "decay": {1000024: ((1.0, (24, 1000022)),), 1000023: ((1.0, (23, 1000022)),)},
        },
        model={"m_C1N2_GeV": mass, "m_N1_GeV": lightest},
        notes=(
            "wino-like, decays isotropic",
            "K factor 1.57 to NLO+NLL, from the release's samples of the same kind at 400 and 500 GeV",
        ),
    )


_SUSY = (
    Process(
        name="SlepSlep_direct_300p5_1p0_2L8",
        dsid=392920,
        group="SUSYSlepSlep",
        pythia=("SUSY:qqbar2sleptonantislepton = on",),
        cross_section=CrossSection(0.018705, "release table, without its filter efficiency"),
        generated={"2lep": 1_800},
        slha={
            "mass": {**dict.fromkeys(_SLEPTONS, 300.5), 1000022: 1.0},
            "decay": _slepton_decays(_SLEPTONS),
        },
        model={"m_slepton_GeV": 300.5, "m_N1_GeV": 1.0},
        notes=("left and right sleptons of three flavours, degenerate", "no two-lepton filter"),
    ),
    Process(
        name="C1C1_SlepSnu_x0p50_400p0_100p0_2L8",
        dsid=392507,
        group="SUSYC1C1",
        pythia=("SUSY:qqbar2chi+chi- = on", "SUSY:idA = 1000024"),
        cross_section=CrossSection(0.05594, "release table, without its filter efficiency"),
        generated={"2lep": 2_200},
        slha={
            "mass": {
                1000024: 400.0,
                1000022: 100.0,
                **dict.fromkeys((1000011, 1000013, 1000015, 1000012, 1000014, 1000016), 250.0),
            },
            "decay": {
                1000024: tuple(
                    (1 / 6, pair)
                    for flavour in (11, 13, 15)
                    for pair in ((-(1000000 + flavour), flavour + 1), (1000001 + flavour, -flavour))
                ),
                **_slepton_decays((1000011, 1000013, 1000015, 1000012, 1000014, 1000016)),
            },
        },
        model={"m_C1_GeV": 400.0, "m_N1_GeV": 100.0, "x": 0.5},
        notes=("decays isotropic", "no two-lepton filter"),
    ),
    _chargino_neutralino(450.0, 300.0, 900301),
    _chargino_neutralino(800.0, 50.0, 900302),
    Process(
        name="GG_ttn1_1200_5000_1",
        dsid=370114,
        group="GG_ttn1",
        pythia=("SUSY:gg2gluinogluino = on", "SUSY:qqbar2gluinogluino = on"),
        cross_section=CrossSection(0.057037, "release"),
        generated={"2lep": 9_000, "3lep": 75_000},
        slha={
            "mass": {1000021: 1200.0, 1000022: 1.0},
            "decay": {1000021: ((1.0, (6, -6, 1000022)),)},
        },
        model={"m_gluino_GeV": 1200.0, "m_stop_GeV": 5000.0, "m_N1_GeV": 1.0},
        notes=("three-body decay by phase space",),
    ),
    Process(
        name="TT_directTT_500_1",
        dsid=387154,
        group="TT_directTT",
        pythia=(
            "SUSY:gg2squarkantisquark = on",
            "SUSY:qqbar2squarkantisquark = on",
            "SUSY:idA = 1000006",
            "SUSY:idB = 1000006",
            *_W_TO_LEPTONS,
        ),
        cross_section=CrossSection(0.51848 * BR_W**2, "release table 0.51848 pb x BR(W -> l nu)^2"),
        generated={"2lep": 2_500},
        slha={
            "mass": {1000006: 500.0, 1000022: 1.0},
            "decay": {1000006: ((1.0, (6, 1000022)),)},
        },
        model={"m_stop_GeV": 500.0, "m_N1_GeV": 1.0},
        notes=("both W decay to leptons", "tops unpolarised"),
    ),
)


def _zprime(name: str, dsid: int, mass: float, daughter: int, cross_section: CrossSection) -> Process:
    top = daughter == 6
    return Process(
        name=f"{name}",
        dsid=dsid,
        group={11: "Zprime_ee", 13: "Zprime_mumu", 6: "Zprime_tt"}[daughter],
        pythia=(
            "NewGaugeBoson:ffbar2gmZZprime = on",
            "Zprime:gmZmode = 3",
            f"32:m0 = {mass:g}",
            f"PhaseSpace:mHatMin = {mass / 2:g}",
            "32:onMode = off",
            f"32:onIfAny = {daughter}",
            *(_W_TO_LEPTONS if top else ()),
        ),
        cross_section=cross_section,
        generated={"2lep": 2_500 if top else 1_500},
        model={"m_Zprime_GeV": mass},
        notes=(
            "couplings of the sequential standard model, normalised to the release's cross section",
            "no interference with Z and photon",
            *(("both W decay to leptons",) if top else ()),
        ),
    )


def _graviton(
    name: str, dsid: int, group: str, mass: float, decay: tuple[str, ...], cross_section: CrossSection
) -> Process:
    four_leptons = group == "RS_G_ZZ"
    return Process(
        name=name,
        dsid=dsid,
        group=group,
        pythia=(
            "ExtraDimensionsG*:gg2G* = on",
            "ExtraDimensionsG*:ffbar2G* = on",
            "ExtraDimensionsG*:kappaMG = 0.54",
            f"5100039:m0 = {mass:g}",
            "5100039:onMode = off",
            *decay,
        ),
        cross_section=cross_section,
        generated={"2lep": 3_200, "3lep": 4_000} if four_leptons else {"2lep": 1_500},
        model={"m_G_GeV": mass, **({"c": 1.0} if four_leptons else {"k_over_Mpl": 0.1})},
        notes=("Pythia's Randall-Sundrum graviton, normalised to the release's cross section",),
    )


_RESONANCES = (
    _zprime("ZPrime2000_ee", 301215, 2000.0, 11, CrossSection(0.0088432, "release")),
    _zprime("ZPrime2000_mumu", 301220, 2000.0, 13, CrossSection(0.0088801, "release")),
    _zprime(
        "ZPrime1000_tt",
        301325,
        1000.0,
        6,
        CrossSection(1.1261 * BR_W**2, "release 1.1261 pb x BR(W -> l nu)^2"),
    ),
    _graviton(
        "RS_G_ZZ_llll_c10_m0500",
        307434,
        "RS_G_ZZ",
        500.0,
        ("5100039:onIfAny = 23", "23:onMode = off", "23:onIfAny = 11 13"),
        CrossSection(0.02373, "release"),
    ),
    _graviton(
        "Gee_01_750", 305550, "G_ee", 750.0, ("5100039:onIfAny = 11",), CrossSection(2.4052, "release")
    ),
    _graviton(
        "Gmumu_01_750", 305568, "G_mumu", 750.0, ("5100039:onIfAny = 13",), CrossSection(2.3952, "release")
    ),
)

_DARK_MATTER = Process(
    name="dmV_Zll_MET40_DM1_MM300",
    dsid=303513,
    group="dmV_Zll",
    pythia=(
        "HiggsSM:ffbar2HZ = on",
        "25:m0 = 300.",
        "25:doForceWidth = on",
        "25:mWidth = 3.",
        "1000022:m0 = 1.",
        "25:oneChannel = 1 1.0 100 1000022 1000022",
        "PhaseSpace:pTHatMin = 40.",
        "23:onMode = off",
        "23:onIfAny = 11 13",
    ),
    cross_section=CrossSection(0.052899, "release, with its filter efficiency"),
    generated={"2lep": 1_800},
    model={"m_DM_GeV": 1.0, "m_mediator_GeV": 300.0},
    notes=(
        "an invisible scalar radiated off a Z stands for the vector mediator radiated off quarks",
        "missing momentum harder than that of the release's sample",
    ),
)


def _right_handed_w(mass: float, neutrino: float, dsid: int) -> Process:
    return Process(
        name=f"WR_lN_{mass:.0f}_{neutrino:.0f}",
        dsid=dsid,
        group="WR_lN",
        pythia=(
            "LeftRightSymmmetry:ffbar2WR = on",  # Pythia spells it so
            f"9900024:m0 = {mass:g}",
            f"PhaseSpace:mHatMin = {mass / 2:g}",
            *(f"{code}:m0 = {neutrino:g}" for code in (9900012, 9900014)),
            "9900016:m0 = 20000.",
            "9900024:onMode = off",
            "9900024:onIfAny = 9900012 9900014",
            *(
                text
                for code, lepton in ((9900012, 11), (9900014, 13))
                for text in (
                    f"{code}:oneChannel = 1 0.5 0 {lepton} 24",
                    f"{code}:addChannel = 1 0.5 0 {-lepton} -24",
                )
            ),
        ),
        cross_section=CrossSection(1.3, "Pythia 8 LO x 1.3", of_pythia=True),
        generated={"2lep": 2_000, "3lep": 7_000},
        model={"m_WR_GeV": mass, "m_N_GeV": neutrino},
        notes=(
            "Majorana neutrinos N_e and N_mu; N -> l W with a real W of any decay instead of N -> l W_R*",
            "K factor 1.3",
        ),
    )


PROCESSES: tuple[Process, ...] = (
    *_drell_yan_flavour("Zee", 361106, 900101, 11),
    *_drell_yan_flavour("Zmumu", 361107, 900111, 13),
    *_DRELL_YAN_TAU,
    _W_FAKES,
    *_TOP,
    *_DIBOSON,
    *_HIGGS,
    *_SUSY,
    *_RESONANCES,
    _DARK_MATTER,
    _right_handed_w(2000.0, 1000.0, 900401),
    _right_handed_w(3000.0, 500.0, 900402),
)
"""The processes of the demo sample, backgrounds first."""

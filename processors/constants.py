"""Constants of nature and of the two releases, each with its source; they stand here once."""

from types import MappingProxyType

__all__ = [
    "B_TAG_WORKING_POINTS",
    "ELECTRON_MASS",
    "FLAVOUR_COMBINATION",
    "JVT_CUT",
    "JVT_MAX_ABS_ETA",
    "JVT_MAX_PT",
    "MEV",
    "MUON_MASS",
    "MV2C10_CUTS",
    "RMM_RAPIDITY_SCALE",
    "SQRT_S",
]

# Particle Data Group 2024, [GeV].
ELECTRON_MASS = 0.000510998950
MUON_MASS = 0.1056583755
Z_MASS = 91.1876

# One MeV in GeV: the 2020 release stores MeV.
MEV = 1e-3

# Centre-of-mass energy of LHC Run 2, [GeV].
SQRT_S = 13_000.0

# Scale of the rapidity cells of the rapidity-mass matrix: Chekanov, NIM A 931 (2019) 92, eq. 2.
RMM_RAPIDITY_SCALE = 0.15

# b-tag working points [% efficiency for b jets], loosest first. A jet's `btag` counts how many it passes.
B_TAG_WORKING_POINTS = (85, 77, 70, 60)

# MV2c10 value from which on a jet passes: ATL-OREACH-PUB-2020-001, loosest first.
MV2C10_CUTS = (0.1758475, 0.645925, 0.8244273, 0.9349)

# A jet below this pT and |eta| is taken for pile-up when its JVT is below the cut (2020 release).
JVT_MAX_PT = 60.0
JVT_MAX_ABS_ETA = 2.4
JVT_CUT = 0.59

# (electrons, muons) -> flavour combination; 4 and 5 are kept for the ordered mme and mee of the thesis' code.
FLAVOUR_COMBINATION = MappingProxyType(
    {(3, 0): 0, (2, 1): 1, (1, 2): 2, (0, 3): 3, (2, 0): 6, (0, 2): 7, (1, 1): 8}
)

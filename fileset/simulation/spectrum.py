"""SUSY spectra in the SUSY Les Houches Accord form (arXiv:hep-ph/0311123), as Pythia reads them."""

from typing import Any

__all__ = ["slha_text"]

_DECOUPLED = 1e4  # GeV
_SPARTICLES = (
    *(1000000 + code for code in (1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 21, 22, 23, 24, 25, 35, 37)),
    *(2000000 + code for code in (1, 2, 3, 4, 5, 6, 11, 13, 15)),
)


def slha_text(spectrum: dict[str, dict[int, Any]]) -> str:
    """The file for a simplified model: bino N1, wino N2 and C1, unmixed sfermions, the rest decoupled.

    Args:
        spectrum: `mass` [GeV] by PDG code, and `decay`: for each code pairs (branching ratio, daughters).
    """
    masses = {**dict.fromkeys(_SPARTICLES, _DECOUPLED), **spectrum["mass"]}
    # Without tan beta (HMIX 2) Pythia silently leaves the gauginos without couplings.
    lines = ["BLOCK MODSEL", "  1  0", "BLOCK HMIX", "  1  4.0E+02", "  2  1.0E+01", "BLOCK MASS"]
    lines += [f"  {code}  {mass:.6E}" for code, mass in masses.items()]
    for block, size in (
        ("NMIX", 4),
        ("UMIX", 2),
        ("VMIX", 2),
        ("STOPMIX", 2),
        ("SBOTMIX", 2),
        ("STAUMIX", 2),
    ):
        lines.append(f"BLOCK {block}")
        lines += [f"  {i}  {j}  {float(i == j):.1f}" for i in range(1, size + 1) for j in range(1, size + 1)]
    for code, channels in spectrum["decay"].items():
        lines.append(f"DECAY {code} 1.0E-01")
        lines += [f"  {ratio:.8E}  {len(d)}  {'  '.join(map(str, d))}" for ratio, d in channels]
    lines.append("DECAY 1000022 0.0")
    return "\n".join(lines) + "\n"

"""The rapidity-mass matrix (RMM).

Chekanov, NIM A 931 (2019) 92 and Universe 7 (2021) 19; thesis eq. 3.1. Row and column 0 belong to the missing
transverse momentum, the others to the objects, type by type, each type by falling pT and padded with zeros. Masses
stand above the diagonal, rapidity differences below, transverse energies on it. Three published conventions exist:

`thesis`
    the matrix of thesis eq. 3.1, energies in GeV;
`thesis-code`
    what the thesis' authors ran: m_T is that of the single object, half the rapidity difference, pT in the
    energy imbalance;
`map2rmm`
    Chekanov's Map2RMM, used by the ATLAS search of 2024 (PRL 132 (2024) 081801): energies over sqrt(s), half the
    rapidity difference, E sin(theta) as transverse energy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import awkward as ak
import numba
import numpy as np
from numpy.typing import NDArray

from processors.constants import RMM_RAPIDITY_SCALE, SQRT_S
from processors.schema import flat_columns
from processors.settings import Convention, RMMSettings

__all__ = [
    "ATLAS_2024_REMOVED",
    "Convention",
    "RMMLayout",
    "energy_cells",
    "layout_of",
    "model_cells",
    "rapidity_mass_matrix",
    "removed_cells",
]

_SHORT_NAMES = {"ljet": "j", "bjet": "b", "electron": "e", "muon": "mu", "photon": "g"}

# cosh(dy) - 1 is 0 in double precision when the rapidities differ by less.
ROUND_OFF = 1e-8

# float32 values of a cache line.
_LINE = 16

# The invariant masses in which the ATLAS search of 2024 looked for bumps; their cells were not given to the network.
ATLAS_2024_REMOVED = (
    "m_j1_j2",
    "m_j1_b1",
    "m_j1_mu1",
    "m_j1_e1",
    "m_j1_g1",
    "m_b1_b2",
    "m_b1_mu1",
    "m_b1_e1",
    "m_b1_g1",
)


@dataclass(frozen=True, init=False)
class RMMLayout:
    """Which objects the matrix has, in which order, and how many of each ("TmNn").

    >>> layout = RMMLayout(("ljet", 6), ("bjet", 6), ("electron", 5), ("muon", 5))
    >>> layout.size
    23
    >>> layout.cell_names[:2], len(layout.cell_names)
    (('met', 'mt_j1'), 529)
    """

    types: tuple[tuple[str, int], ...]

    def __init__(self, *types: tuple[str, int]) -> None:
        names = [name for name, _ in types]
        if not types or len(set(names)) < len(names) or not set(names) <= set(_SHORT_NAMES):
            message = f"object types {names} must be different ones of {sorted(_SHORT_NAMES)}"
            raise ValueError(message)
        if min(number for _, number in types) < 1:
            message = f"each type needs at least one object: {types}"
            raise ValueError(message)
        object.__setattr__(self, "types", tuple((name, int(number)) for name, number in types))

    @property
    def size(self) -> int:
        """Number of rows: one for the missing transverse momentum, one for each object."""
        return 1 + sum(number for _, number in self.types)

    @cached_property
    def object_names(self) -> tuple[str, ...]:
        """Short names of rows 1, 2, ...: `j1`, `j2`, ..., `mu5`."""
        return tuple(f"{_SHORT_NAMES[name]}{i}" for name, number in self.types for i in range(1, number + 1))

    @cached_property
    def cell_names(self) -> tuple[str, ...]:
        """Names of all cells, row by row, as shards use them."""
        names = self.object_names
        cells = []
        for row in range(self.size):
            for column in range(self.size):
                a, b = (names[i - 1] if i else "" for i in (row, column))
                if row == 0:
                    cells.append(f"mt_{b}" if column else "met")
                elif column == 0:
                    cells.append(f"hl_{a}")
                elif row == column:
                    cells.append(f"et_{a}" if a.lstrip("jbemug") == "1" else f"det_{a}")
                else:
                    cells.append(f"m_{a}_{b}" if row < column else f"h_{a}_{b}")
        return tuple(cells)


def layout_of(settings: RMMSettings) -> RMMLayout:
    """The layout that settings ask for; Map2RMM puts muons before electrons."""
    leptons = [("electron", settings.electrons), ("muon", settings.muons)]
    if settings.convention == "map2rmm":
        leptons.reverse()
    types = [
        ("ljet", settings.light_jets),
        ("bjet", settings.b_jets),
        *leptons,
        ("photon", settings.photons),
    ]
    return RMMLayout(*[(name, number) for name, number in types if number > 0])


def model_cells(settings: RMMSettings) -> tuple[str, ...]:
    """The cells that models may see: all of the layout, or those that `removed` leaves; none where none are written."""
    if not settings.write:
        return ()
    layout = layout_of(settings)
    return removed_cells(layout) if settings.removed == "atlas-2024" else layout.cell_names


def energy_cells(cells: Sequence[str]) -> tuple[str, ...]:
    """Those of the cells that are energies or masses [GeV]: no rapidities, no imbalances of successive objects."""
    return tuple(cell for cell in cells if not cell.startswith(("hl_", "h_", "det_")))


def removed_cells(layout: RMMLayout, removed: tuple[str, ...] = ATLAS_2024_REMOVED) -> tuple[str, ...]:
    """The cell names of a layout without the removed ones (names the layout does not have are ignored)."""
    return tuple(name for name in layout.cell_names if name not in removed)


@numba.njit(cache=True)
def _leading(
    start: int, stop: int, pt: NDArray[np.float64], n_max: int, chosen: NDArray[np.int64]
) -> int:  # pragma: no cover - compiled
    """Positions of the n_max objects of largest pT, by falling pT, stable; returns how many there are."""
    n = 0
    for i in range(start, stop):
        j = min(n_max, n)
        while j > 0 and pt[chosen[j - 1]] < pt[i]:
            if j < n_max:
                chosen[j] = chosen[j - 1]
            j -= 1
        if j < n_max:
            chosen[j] = i
            if n < n_max:
                n += 1
    return n


@numba.njit(cache=True, error_model="numpy")
def _fill(  # noqa: PLR0915 - one pass over the objects; splitting it would pass a dozen buffers around
    offsets: NDArray[np.int64],
    content: NDArray[np.float64],
    numbers: NDArray[np.int64],
    met_pt: NDArray[np.float64],
    met_phi: NDArray[np.float64],
    convention: int,
    sqrt_s: float,
    c: float,
    out: NDArray[np.float32],
) -> None:  # pragma: no cover - compiled
    """Fills out (size, size, at least n_events).

    offsets: (types, n_events + 1) into content; content: (4, objects) pt, eta, phi, mass of all types in a row;
    convention: 0 thesis, 1 thesis-code, 2 map2rmm.

    Differences are written so that nothing cancels: with sinh and sin of half the differences of rapidity and
    azimuth, m^2 = m1^2 + m2^2 + 2 (eT1 eT2 - pT1 pT2) + 4 eT1 eT2 sinh^2(dy/2) + 4 pT1 pT2 sin^2(dphi/2).
    """
    n_types, size = numbers.size, out.shape[0]
    rows = np.empty(size, dtype=np.int64)
    pt, et, mass_squared = np.empty(size), np.empty(size), np.empty(size)
    half, quarter = np.empty(size), np.empty(size)  # exp(y/2), exp(y/4)
    sine, cosine = np.empty(size), np.empty(size)  # of phi/2
    compared = np.empty(size)  # what the diagonal compares
    chosen = np.empty(size, dtype=np.int64)
    scale = 1.0 / sqrt_s if convention == 2 else 1.0
    for event in range(met_pt.size):
        met = met_pt[event]
        met_sine, met_cosine = np.sin(0.5 * met_phi[event]), np.cos(0.5 * met_phi[event])
        out[0, 0, event] = met * scale
        n, first_row = 0, 1
        for t in range(n_types):
            found = _leading(offsets[t, event], offsets[t, event + 1], content[0], numbers[t], chosen)
            for k in range(found):
                i = chosen[k]
                pt[n], mass = content[0, i], content[3, i]
                mass_squared[n] = mass * mass
                et[n] = np.sqrt(mass_squared[n] + pt[n] * pt[n])
                pz = pt[n] * np.sinh(content[1, i])
                y = np.arcsinh(pz / et[n]) if et[n] > 0 else 0.0
                half[n] = np.exp(0.5 * y)
                quarter[n] = np.exp(0.25 * y) if convention > 0 else 0.0
                sine[n], cosine[n] = np.sin(0.5 * content[2, i]), np.cos(0.5 * content[2, i])
                rows[n] = first_row + k
                row = rows[n]
                # Longitudinal: cosh(y) - 1 = 2 sinh^2(y/2).
                s = 0.5 * (half[n] - 1.0 / half[n])
                out[row, 0, event] = c * 2.0 * s * s
                # Diagonal: the leading object's transverse energy, then the imbalance of neighbours.
                transverse, excess = et[n], mass_squared[n]  # eT and eT^2 - pT^2
                if convention == 2:  # E sin(theta)
                    squared = pt[n] * pt[n] + pz * pz
                    transverse, excess = 0.0, 0.0
                    if squared > 0:
                        transverse = pt[n] * np.sqrt(1.0 + mass_squared[n] / squared)
                        excess = mass_squared[n] * pt[n] * pt[n] / squared
                if k == 0:
                    out[row, row, event] = transverse * scale
                compared[n] = pt[n] if convention == 1 else transverse
                if k > 0:
                    total = compared[n - 1] + compared[n]
                    out[row, row, event] = (compared[n - 1] - compared[n]) / total if total > 0 else 0.0
                # Transverse mass with the missing transverse momentum.
                if convention == 1:
                    out[0, row, event] = et[n]
                elif convention == 0 or met > 0:
                    s = sine[n] * met_cosine - cosine[n] * met_sine
                    squared = excess + 2.0 * met * (transverse - pt[n] + 2.0 * pt[n] * s * s)
                    out[0, row, event] = scale * np.sqrt(max(squared, 0.0))
                for other in range(n):
                    ratio = half[n] / half[other]
                    sinh_half = 0.5 * (ratio - 1.0 / ratio)
                    sin_half = sine[n] * cosine[other] - cosine[n] * sine[other]
                    squared = (
                        mass_squared[n]
                        + mass_squared[other]
                        + 2.0 * (et[n] * et[other] - pt[n] * pt[other])
                        + 4.0 * et[n] * et[other] * sinh_half * sinh_half
                        + 4.0 * pt[n] * pt[other] * sin_half * sin_half
                    )
                    out[rows[other], row, event] = scale * np.sqrt(max(squared, 0.0))
                    if convention > 0:
                        # cosh(dy/2) - 1 = 2 sinh^2(dy/4)
                        ratio = quarter[n] / quarter[other]
                        sinh_half = 0.5 * (ratio - 1.0 / ratio)
                    # Below the round-off of the rapidities themselves the two are equal.
                    if abs(sinh_half) > ROUND_OFF:
                        out[row, rows[other], event] = c * 2.0 * sinh_half * sinh_half
                n += 1
            first_row += numbers[t]


def rapidity_mass_matrix(
    objects: dict[str, ak.Array],
    met: ak.Array,
    layout: RMMLayout,
    convention: Convention = "thesis",
    sqrt_s: float = SQRT_S,
    c: float = RMM_RAPIDITY_SCALE,
) -> NDArray[np.float32]:
    """Rapidity-mass matrices of n events.

    Args:
        objects: type -> n lists of records `pt`, `eta`, `phi`, `mass` [GeV], in any order; every type of the
            layout must be there. Only the leading ones by pT of each type enter.
        met: n records `pt` [GeV], `phi`.
        layout: types and their numbers.
        convention: see the module.
        sqrt_s: centre-of-mass energy [GeV], used by `map2rmm`.
        c: scale of the rapidity cells.

    Returns:
        Shape (n, layout.size, layout.size), a view in which each cell is contiguous; 0 where an object is absent.

    Raises:
        ValueError: the convention is unknown, a type is absent, or the lengths differ.
    """
    if convention not in get_args(Convention):
        message = f"convention {convention!r} is none of {', '.join(get_args(Convention))}"
        raise ValueError(message)
    met_pt, met_phi = (np.asarray(met[field], dtype=np.float64) for field in ("pt", "phi"))
    n_events = met_pt.size
    contents, offsets, filled = [], np.zeros((len(layout.types), n_events + 1), dtype=np.int64), 0
    for t, (name, _) in enumerate(layout.types):
        if name not in objects or len(objects[name]) != n_events:
            message = f"the layout needs {n_events} lists of {name!r}, as many as there are events"
            raise ValueError(message)
        own_offsets, columns = flat_columns(objects[name], ("pt", "eta", "phi", "mass"))
        offsets[t] = own_offsets + filled
        filled += columns["pt"].size
        contents.append(np.array(list(columns.values()), dtype=np.float64).reshape(4, -1))
    # Cell by cell: what no event has is never touched, and a shard's columns need no copy. The odd number of cache
    # lines from one cell to the next keeps the cells of an event out of each other's way.
    out = np.zeros((layout.size, layout.size, (-(-n_events // _LINE) | 1) * _LINE), dtype=np.float32)
    _fill(
        offsets,
        np.concatenate(contents, axis=1),
        np.array([number for _, number in layout.types]),
        met_pt,
        met_phi,
        get_args(Convention).index(convention),
        float(sqrt_s),
        float(c),
        out,
    )
    return np.moveaxis(out[:, :, :n_events], 2, 0)

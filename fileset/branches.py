"""The branches that the analysis reads of each release, and the types it accepts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

__all__ = ["TREES", "TreeExpectation", "accepts", "expectation"]


@dataclass(frozen=True)
class TreeExpectation:
    """What a release's tree must hold.

    `branches` maps a branch to the type it must have: `real`, `integer` or `boolean`, with `list of ` before it for
    one list an event. `simulation` are branches that only simulation must have. `counters` maps a collection's
    counter to the branches that have as many elements.
    """

    branches: Mapping[str, str]
    simulation: Mapping[str, str]
    counters: Mapping[str, tuple[str, ...]]
    identity: tuple[str, str, str] = ("channelNumber", "runNumber", "eventNumber")
    cross_section: tuple[str, ...] = ()
    sum_of_weights: str = ""


def _tree(
    events: Mapping[str, str],
    simulation: Mapping[str, str],
    collections: Mapping[str, Mapping[str, str]],
    cross_section: tuple[str, ...],
    sum_of_weights: str,
) -> TreeExpectation:
    branches = dict(events)
    counters = {}
    for prefix, fields in collections.items():
        branches[f"{prefix}_n"] = "integer"
        counters[f"{prefix}_n"] = tuple(f"{prefix}_{field}" for field in fields)
        branches.update({f"{prefix}_{field}": f"list of {kind}" for field, kind in fields.items()})
    return TreeExpectation(
        branches=MappingProxyType(branches),
        simulation=MappingProxyType(dict(simulation)),
        counters=MappingProxyType(counters),
        cross_section=cross_section,
        sum_of_weights=sum_of_weights,
    )


_IDENTITY = {"channelNumber": "integer", "runNumber": "integer", "eventNumber": "integer"}

TREES: Mapping[str, TreeExpectation] = MappingProxyType(
    {
        "2020": _tree(
            {**_IDENTITY, "met_et": "real", "met_phi": "real"},
            dict.fromkeys(
                (
                    "mcWeight",
                    "scaleFactor_PILEUP",
                    "scaleFactor_ELE",
                    "scaleFactor_MUON",
                    "scaleFactor_LepTRIGGER",
                    "scaleFactor_BTAG",
                ),
                "real",
            ),
            {
                "lep": {
                    **dict.fromkeys(("pt", "eta", "phi", "E", "z0", "ptcone30", "etcone20"), "real"),
                    **dict.fromkeys(("trackd0pvunbiased", "tracksigd0pvunbiased"), "real"),
                    **dict.fromkeys(("charge", "type"), "integer"),
                    "isTightID": "boolean",
                },
                "jet": dict.fromkeys(("pt", "eta", "phi", "E", "jvt", "MV2c10"), "real"),
            },
            ("XSection",),
            "SumWeights",
        ),
        "2025": _tree(
            {**_IDENTITY, "met": "real", "met_phi": "real"},
            dict.fromkeys(
                (
                    "mcWeight",
                    "ScaleFactor_PILEUP",
                    "ScaleFactor_ELE",
                    "ScaleFactor_MUON",
                    "ScaleFactor_LepTRIGGER",
                    "ScaleFactor_BTAG",
                ),
                "real",
            ),
            {
                "lep": {
                    **dict.fromkeys(("pt", "eta", "phi", "e", "z0", "d0", "d0sig"), "real"),
                    **dict.fromkeys(("ptvarcone30", "topoetcone20"), "real"),
                    **dict.fromkeys(("charge", "type"), "integer"),
                    "isTightID": "boolean",
                },
                "jet": {
                    **dict.fromkeys(("pt", "eta", "phi", "e"), "real"),
                    "jvt": "boolean",
                    "btag_quantile": "integer",
                },
            },
            ("xsec", "kfac", "filteff"),
            "sum_of_weights",
        ),
    }
)

_PHOTONS = {"2020": ("pt", "eta", "phi", "E"), "2025": ("pt", "eta", "phi", "e")}


def expectation(release: str, *, photons: bool = False) -> TreeExpectation:
    """What a release's tree must hold; with photons too where a matrix with photons is computed."""
    tree = TREES[release]
    if not photons:
        return tree
    names = tuple(f"photon_{field}" for field in _PHOTONS[release])
    kinds = {"photon_n": "integer", **dict.fromkeys(names, "list of real")}
    return replace(
        tree,
        branches=MappingProxyType({**tree.branches, **kinds}),
        counters=MappingProxyType({**tree.counters, "photon_n": names}),
    )


_LIST = re.compile(
    r"(?:std::vector|(?:ROOT::VecOps::|ROOT::)?RVec)<(?P<vector>[^<>]+)>|(?P<array>\w+)\[\w*\]"
)
_KINDS = {
    "real": {"float", "double", "Float16_t", "Double32_t"},
    "integer": {f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)}
    | {"int", "unsigned int", "short", "unsigned short", "long", "unsigned long"},
    "boolean": {"bool", "char", "int8_t", "uint8_t", "unsigned char"},
}


def accepts(expected: str, typename: str) -> bool:
    """Whether a branch of this C++ type (as uproot names it) can be read as expected.

    Args:
        expected: `real`, `integer`, `boolean`, with "list of" before it for one list an event.
        typename: such as `std::vector<float>`, `RVec<int32_t>`, `float[]` or `double`.
    """
    match = _LIST.fullmatch(typename.strip())
    element = (match["vector"] or match["array"]) if match else typename
    is_list = expected.startswith("list of ")
    return is_list == bool(match) and element.strip() in _KINDS[expected.removeprefix("list of ")]

"""Writing the release's `mini` tree: all 81 branches with the release's names, types, order and units.

Branches that the simulation has nothing for (photons, τ leptons, large-R jets) are empty or neutral.
uproot cannot write `std::vector` branches into a TTree, so ROOT writes them.
"""

import os
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from fileset.exceptions import FailureError, InputError

__all__ = ["MINI_BRANCHES", "write_mini"]

_TYPES = {"i": "int32_t", "u": "uint32_t", "f": "float", "o": "bool"}
_BRANCHES = """
runNumber:i eventNumber:i channelNumber:i mcWeight:f scaleFactor_PILEUP:f scaleFactor_ELE:f scaleFactor_MUON:f
scaleFactor_PHOTON:f scaleFactor_TAU:f scaleFactor_BTAG:f scaleFactor_LepTRIGGER:f scaleFactor_PhotonTRIGGER:f
trigE:o trigM:o trigP:o lep_n:u lep_truthMatched:O lep_trigMatched:O lep_pt:F lep_eta:F lep_phi:F lep_E:F
lep_z0:F lep_charge:I lep_type:U lep_isTightID:O lep_ptcone30:F lep_etcone20:F lep_trackd0pvunbiased:F
lep_tracksigd0pvunbiased:F met_et:f met_phi:f jet_n:u jet_pt:F jet_eta:F jet_phi:F jet_E:F jet_jvt:F
jet_trueflav:I jet_truthMatched:O jet_MV2c10:F photon_n:u photon_truthMatched:O photon_trigMatched:O photon_pt:F
photon_eta:F photon_phi:F photon_E:F photon_isTightID:O photon_ptcone30:F photon_etcone20:F photon_convType:I
tau_n:u tau_pt:F tau_eta:F tau_phi:F tau_E:F tau_isTightID:O tau_truthMatched:O tau_trigMatched:O tau_nTracks:I
tau_BDTid:F ditau_m:f lep_pt_syst:F met_et_syst:f jet_pt_syst:F photon_pt_syst:F tau_pt_syst:F XSection:f
SumWeights:f largeRjet_n:u largeRjet_pt:F largeRjet_eta:F largeRjet_phi:F largeRjet_E:F largeRjet_m:F
largeRjet_truthMatched:F largeRjet_D2:F largeRjet_tau32:F largeRjet_pt_syst:F tau_charge:I
"""


def _type(code: str) -> str:
    return f"std::vector<{_TYPES[code.lower()]}>" if code.isupper() else _TYPES[code]


MINI_BRANCHES: dict[str, str] = {
    name: _type(code) for name, code in (entry.split(":") for entry in _BRANCHES.split())
}
"""Type of each branch of `mini`, in the release's order."""

_NUMPY = {"int32_t": np.int32, "uint32_t": np.uint32, "float": np.float32, "bool": np.uint8}
_LEAF = {"int32_t": "I", "uint32_t": "i", "float": "F", "bool": "O"}
_ALGORITHM = 2  # LZMA: 120 bytes per event where ZSTD needs 210
_LEVEL = 6

# The file is made in memory because a TFile keeps the path it was opened with, which is nobody's business.
# A column owns the variable a branch points to and copies the next event into it.
_CPP = """
#include <fstream>
#include <memory>
#include <vector>
#include <TMemFile.h>
#include <TTree.h>
namespace mini_writer {
struct Column { virtual ~Column() = default; virtual void load(long i) = 0; };
template <typename T, typename S> struct Scalar : Column {
  const S *data; T value{};
  explicit Scalar(const S *d) : data(d) {}
  void load(long i) override { value = static_cast<T>(data[i]); }
};
template <typename T, typename S> struct Vector : Column {
  const S *data; const std::int64_t *offsets; std::vector<T> value;
  Vector(const S *d, const std::int64_t *o) : data(d), offsets(o) {}
  void load(long i) override { value.assign(data + offsets[i], data + offsets[i + 1]); }
};
class Writer {
  TMemFile file; TTree *tree; std::vector<std::unique_ptr<Column>> columns;
public:
  Writer(const char *name, int compression) : file(name, "RECREATE", "", compression) {
    tree = new TTree("mini", "mini"); tree->SetDirectory(&file);
  }
  template <typename T, typename S> void scalar(const char *name, const char *leaf, std::uintptr_t data) {
    auto column = std::make_unique<Scalar<T, S>>(reinterpret_cast<const S *>(data));
    tree->Branch(name, &column->value, leaf); columns.push_back(std::move(column));
  }
  template <typename T, typename S> void vector(const char *name, std::uintptr_t data, std::uintptr_t offsets) {
    auto column = std::make_unique<Vector<T, S>>(reinterpret_cast<const S *>(data),
                                                 reinterpret_cast<const std::int64_t *>(offsets));
    tree->Branch(name, &column->value, 256000, 0); columns.push_back(std::move(column));
  }
  bool fill(long entries, const char *path) {
    for (long i = 0; i < entries; ++i) { for (auto &c : columns) c->load(i); tree->Fill(); }
    file.Write("", TObject::kOverwrite);
    std::vector<char> bytes(file.GetEND());
    file.CopyTo(bytes.data(), bytes.size());
    std::ofstream out(path, std::ios::binary);
    out.write(bytes.data(), bytes.size());
    return static_cast<bool>(out.flush());
  }
};
}
"""


def _root() -> Any:
    try:
        import ROOT  # noqa: PLC0415 - heavy, and only the extra [simulate] has it
    except ImportError as error:
        message = "writing simulated events needs ROOT: install the extra with pip install '.[simulate]'"
        raise InputError(message) from error
    ROOT.gROOT.SetBatch(True)
    if not hasattr(ROOT, "mini_writer"):
        ROOT.gInterpreter.Declare(_CPP)
    return ROOT


def _flat(values: Any, kind: str) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.int64]]:
    counts = ak.to_numpy(ak.num(values))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return np.ascontiguousarray(ak.to_numpy(ak.flatten(values)).astype(_NUMPY[kind])), offsets


def write_mini(path: Path, events: ak.Array, constants: dict[str, float]) -> None:
    """Write events as a tree `mini`.

    Args:
        path: file to write; an older one is replaced once the new one is whole.
        events: record array with some of the branches, in the release's units.
        constants: values of scalar branches that are the same for all events.

    Raises:
        InputError: ROOT is not installed.
        FailureError: the file could not be written.
    """
    root = _root()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    writer = root.mini_writer.Writer(path.name, 100 * _ALGORITHM + _LEVEL)
    n = len(events)
    alive = []  # what the writer points to
    nothing = np.zeros(n + 1, dtype=np.int64)
    for name, full_type in MINI_BRANCHES.items():
        kind = full_type.removeprefix("std::vector<").removesuffix(">")
        source = "unsigned char" if kind == "bool" else kind
        if full_type != kind:
            if name in events.fields:
                data, offsets = _flat(events[name], kind)
            else:
                data, offsets = np.zeros(1, dtype=_NUMPY[kind]), nothing
            alive += [data, offsets]
            writer.vector[kind, source](name, data.ctypes.data, offsets.ctypes.data)
            continue
        if name in events.fields:
            data = np.ascontiguousarray(ak.to_numpy(events[name]).astype(_NUMPY[kind]))
        else:
            data = np.full(n, constants.get(name, 0), dtype=_NUMPY[kind])
        alive.append(data)
        writer.scalar[kind, source](name, f"{name}/{_LEAF[kind]}", data.ctypes.data)
    if not writer.fill(n, str(temporary)):
        message = f"could not write {temporary}: is the disk full?"
        raise FailureError(message)
    os.replace(temporary, path)  # noqa: PTH105 - atomic on the same file system

"""The witness: selection, weights, masses and rapidity-mass matrices in C++, with ROOT's RDataFrame.

A program of its own, since ROOT's compiler takes the whole process with it when it fails:
`python rdataframe_witness.py REQUEST.json DIRECTORY` writes DIRECTORY/<region>.npz for each region asked. It imports
nothing of the packages it is a witness for.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

with warnings.catch_warnings():
    # The wheel announces itself as an alpha version.
    warnings.filterwarnings("ignore", r"\s*This distribution of ROOT is in alpha stage")
    import ROOT

# Declared by itself: ROOT 6.40's compiler finds no symbol of a unit that has both globals and much else.
FILES_CPP = r"""
#include <string>
#include <vector>

namespace witness {

// By number of a file, in the order in which RDataFrame was given them.
std::vector<std::string> files;
std::vector<double> norms;  // cross section x luminosity / sum of weights
std::vector<int> data;

void forget() {
  files.clear();
  norms.clear();
  data.clear();
}

void add(const char *file, double norm, int isData) {
  files.push_back(file);
  norms.push_back(norm);
  data.push_back(isData);
}

int numberOf(const std::string &sample) {
  for (std::size_t i = 0; i < files.size(); ++i)
    if (sample.find(files[i]) != std::string::npos) return int(i);
  return -1;
}

double weight(int file, float mcWeight, float pileup, float electron, float muon, float trigger) {
  if (data[file]) return 1;
  return norms[file] * mcWeight * pileup * electron * muon * trigger;
}

}  // namespace witness
"""

PHYSICS_CPP = r"""
#include <algorithm>
#include <cmath>
#include <vector>
#include "Math/Vector2D.h"
#include "Math/Vector4D.h"
#include "ROOT/RVec.hxx"

namespace witness {

using ROOT::RVec;
using P4 = ROOT::Math::PxPyPzEVector;
using Polar = ROOT::Math::PtEtaPhiMVector;
using InPlane = ROOT::Math::Polar2DVector;

// Positions of the good leptons, hardest first. In the file: MeV, mm.
RVec<int> good(bool threeLeptons, const RVec<float> &pt, const RVec<float> &eta, const RVec<unsigned> &type,
               const RVec<float> &etcone20, const RVec<float> &ptcone30, const RVec<float> &z0,
               const RVec<float> &significance, const RVec<bool> &tight) {
  RVec<int> chosen;
  for (int i = 0; i < int(pt.size()); ++i) {
    bool ok = etcone20[i] / pt[i] < 0.15 && ptcone30[i] / pt[i] < 0.15;
    if (threeLeptons) {
      const double theta = 2 * std::atan(std::exp(-double(eta[i])));
      ok = ok && std::abs(z0[i] * std::sin(theta)) < 0.5;
      if (type[i] == 11) ok = ok && std::abs(eta[i]) < 2.47 && significance[i] <= 5 && tight[i];
      if (type[i] == 13) ok = ok && std::abs(eta[i]) < 2.7 && significance[i] <= 3;
    }
    if (ok) chosen.push_back(i);
  }
  std::stable_sort(chosen.begin(), chosen.end(), [&](int a, int b) { return pt[a] > pt[b]; });
  return chosen;
}

P4 lepton(float pt, float eta, float phi, unsigned type) {
  return P4(Polar(pt / 1000.0, eta, phi, type == 11 ? 0.00051099895 : 0.1056583755));
}

double mll(const RVec<int> &chosen, const RVec<float> &pt, const RVec<float> &eta, const RVec<float> &phi,
           const RVec<unsigned> &type) {
  const int a = chosen[0], b = chosen[1];
  return (lepton(pt[a], eta[a], phi[a], type[a]) + lepton(pt[b], eta[b], phi[b], type[b])).M();
}

double eT(const P4 &p) { return std::sqrt(std::max(p.M2(), 0.0) + p.Perp2()); }

// Rapidity-mass matrix, thesis eq. 3.1, row by row.
std::vector<double> matrix(const RVec<int> &chosen, const RVec<float> &pt, const RVec<float> &eta,
                           const RVec<float> &phi, const RVec<unsigned> &type, const RVec<float> &jpt,
                           const RVec<float> &jeta, const RVec<float> &jphi, const RVec<float> &jE,
                           const RVec<float> &jvt, const RVec<float> &mv2c10, double met, double metPhi) {
  std::vector<P4> light, b, electrons, muons;
  for (std::size_t i = 0; i < jpt.size(); ++i) {
    if (!(jpt[i] > 20e3) || (jpt[i] < 60e3 && std::abs(jeta[i]) < 2.4 && jvt[i] < 0.59)) continue;
    P4 p(Polar(jpt[i] / 1000.0, jeta[i], jphi[i], 0));
    const double stored = jE[i] / 1000.0;
    if (stored > p.P()) p.SetE(stored);  // otherwise massless
    if (mv2c10[i] > 0.645925) b.push_back(p);
    else if (mv2c10[i] < 0.1758475) light.push_back(p);
  }
  for (int i : chosen) (type[i] == 11 ? electrons : muons).push_back(lepton(pt[i], eta[i], phi[i], type[i]));
  met /= 1000;
  const int size = 23;
  const int most[] = {6, 6, 5, 5};
  std::vector<P4> *kinds[] = {&light, &b, &electrons, &muons};
  std::vector<double> cells(size * size, 0.0);
  std::vector<std::pair<int, P4>> placed;
  auto at = [&](int row, int column) -> double & { return cells[row * size + column]; };
  at(0, 0) = met;
  const InPlane missing(met, metPhi);
  for (int k = 0, row = 1; k < 4; row += most[k], ++k) {
    auto &own = *kinds[k];
    std::stable_sort(own.begin(), own.end(), [](const P4 &p, const P4 &q) { return p.Pt() > q.Pt(); });
    for (int n = 0; n < std::min<int>(own.size(), most[k]); ++n) {
      placed.emplace_back(row + n, own[n]);
      at(row + n, row + n) = n == 0 ? eT(own[0]) : (eT(own[n - 1]) - eT(own[n])) / (eT(own[n - 1]) + eT(own[n]));
    }
  }
  for (const auto &[i, p] : placed) {
    const InPlane together = InPlane(p.Pt(), p.Phi()) + missing;
    at(0, i) = std::sqrt(std::max(std::pow(eT(p) + met, 2) - together.Mag2(), 0.0));
    at(i, 0) = 0.15 * (std::cosh(p.Rapidity()) - 1);
    for (const auto &[j, q] : placed) {
      if (i < j) at(i, j) = std::sqrt(std::max((p + q).M2(), 0.0));
      if (i > j) at(i, j) = 0.15 * (std::cosh(p.Rapidity() - q.Rapidity()) - 1);
    }
  }
  return cells;
}

}  // namespace witness
"""

LEPTON = "lep_pt, lep_eta, lep_phi, lep_type"


def witness(files: list[dict[str, Any]], region: str, every: int) -> dict[str, np.ndarray]:
    """One loop of RDataFrame over files of tree `mini`.

    Args:
        files: `path`, `norm`, `data` of each.
        region: 2L or 3L.
        every: matrices are wanted of events whose number is a multiple of this.

    Returns:
        Of the selected events `sample` (position of the file), `event`, `weight`, `mll`, `met_et` (n,); of those with
        a matrix `matrix_sample`, `matrix_event` (k,) and `matrix` (k, 23, 23); `<variable>_value` and
        `<variable>_error` (files, 52), histograms with flow bins.
    """
    ROOT.witness.forget()
    paths = ROOT.std.vector("std::string")()
    for file in files:
        ROOT.witness.add(file["path"], file["norm"], int(file["data"]))
        paths.push_back(file["path"])
    three = "true" if region == "3L" else "false"
    frame = (
        ROOT.RDataFrame("mini", paths)
        .DefinePerSample("sample", "witness::numberOf(rdfsampleinfo_.AsString())")
        .Define(
            "chosen",
            f"witness::good({three}, lep_pt, lep_eta, lep_type, lep_etcone20, lep_ptcone30, lep_z0, "
            "lep_tracksigd0pvunbiased, lep_isTightID)",
        )
        .Filter(f"chosen.size() == {region[0]}")
        .Define(
            "weight",
            "witness::weight(sample, mcWeight, scaleFactor_PILEUP, scaleFactor_ELE, scaleFactor_MUON, "
            "scaleFactor_LepTRIGGER)",
        )
        .Define("event", "ULong64_t(UInt_t(eventNumber))")
        .Define("mll", f"witness::mll(chosen, {LEPTON})")
        .Define("met", "met_et / 1000.0")
        .Define(
            "matrix",
            f"witness::matrix(chosen, {LEPTON}, jet_pt, jet_eta, jet_phi, jet_E, jet_jvt, jet_MV2c10, met_et, met_phi)",
        )
    )
    by_file = (len(files), -0.5, len(files) - 0.5)
    booked = {
        name: frame.Histo2D((name, "", *by_file, 50, 0.0, 500.0), "sample", column, "weight")
        for name, column in (("mll", "mll"), ("met_et", "met"))
    }
    columns = frame.AsNumpy(["sample", "event", "weight", "mll", "met"], lazy=True)
    matrices = frame.Filter(f"event % {every} == 0").AsNumpy(["sample", "event", "matrix"], lazy=True)
    answer = {name: np.asarray(column) for name, column in columns.GetValue().items()}
    answer["met_et"] = answer.pop("met")
    own = matrices.GetValue()
    answer["matrix"] = np.array([np.asarray(one) for one in own["matrix"]]).reshape(-1, 23, 23)
    answer |= {"matrix_sample": np.asarray(own["sample"]), "matrix_event": np.asarray(own["event"])}
    bins = [(i + 1, k) for i in range(len(files)) for k in range(52)]
    for name, histogram in booked.items():
        answer[f"{name}_value"] = np.array([histogram.GetBinContent(*b) for b in bins]).reshape(-1, 52)
        answer[f"{name}_error"] = np.array([histogram.GetBinError(*b) for b in bins]).reshape(-1, 52)
    return answer


if __name__ == "__main__":
    assert ROOT.gInterpreter.Declare(FILES_CPP)
    assert ROOT.gInterpreter.Declare(PHYSICS_CPP)
    for asked, how in json.loads(Path(sys.argv[1]).read_text("utf-8")).items():
        np.savez(Path(sys.argv[2]) / f"{asked}.npz", **witness(how["files"], asked, how["every"]))

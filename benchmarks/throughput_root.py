"""The peer of `throughput.py`: selection, weights, rapidity-mass matrix and histogram with ROOT's RDataFrame in C++.

The physics is that of the witness of the tests (tests/processors/rdataframe_witness.py). It runs twice: compiled by the
system's compiler at -O3, event loop included, so that nothing is compiled while it is timed; and just in time by ROOT's
interpreter, as from a notebook, where the first run compiles. A process of its own that answers requests, so that
nothing but event loops is timed.

    python benchmarks/throughput_root.py DIRECTORY < requests    # one JSON object a line
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "processors"))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that the wheel is an alpha version
    import ROOT
    from rdataframe_witness import FILES_CPP, LEPTON, PHYSICS_CPP

__all__ = ["LOOP_CPP", "compiled", "interpreted", "main", "repeated"]

# One event loop. Columns that only three leptons need are not read for two.
LOOP_CPP = r"""
#include "ROOT/RDataFrame.hxx"

namespace witness {

std::vector<double> loop(int leptons, bool sums) {
  using Floats = RVec<float>;
  static const Floats none;
  static const RVec<unsigned> noType;
  static const RVec<bool> noFlag;
  ROOT::RDataFrame files_("mini", files);
  auto frame = files_.DefinePerSample("sample", [](unsigned, const ROOT::RDF::RSampleInfo &info) {
    return numberOf(info.AsString());
  });
  auto enough = [leptons](const RVec<int> &chosen) { return int(chosen.size()) == leptons; };
  auto two = [](const Floats &pt, const Floats &etcone, const Floats &ptcone) {
    return good(false, pt, none, noType, etcone, ptcone, none, none, noFlag);
  };
  auto three = [](const Floats &pt, const Floats &eta, const RVec<unsigned> &type, const Floats &etcone,
                  const Floats &ptcone, const Floats &z0, const Floats &significance, const RVec<bool> &tight) {
    return good(true, pt, eta, type, etcone, ptcone, z0, significance, tight);
  };
  ROOT::RDF::RNode chosen =
      leptons == 2
          ? ROOT::RDF::RNode(frame.Define("chosen", two, {"lep_pt", "lep_etcone20", "lep_ptcone30"}))
          : ROOT::RDF::RNode(frame.Define("chosen", three,
                                          {"lep_pt", "lep_eta", "lep_type", "lep_etcone20", "lep_ptcone30", "lep_z0",
                                           "lep_tracksigd0pvunbiased", "lep_isTightID"}));
  auto selected =
      chosen.Filter(enough, {"chosen"})
          .Define("weight", weight,
                  {"sample", "mcWeight", "scaleFactor_PILEUP", "scaleFactor_ELE", "scaleFactor_MUON",
                   "scaleFactor_LepTRIGGER"})
          .Define("met", [](float met) { return met / 1000.0; }, {"met_et"})
          .Define("matrix",
                  [](const RVec<int> &own, const Floats &pt, const Floats &eta, const Floats &phi,
                     const RVec<unsigned> &type, const Floats &jpt, const Floats &jeta, const Floats &jphi,
                     const Floats &jE, const Floats &jvt, const Floats &tag, float met, float metPhi) {
                    return matrix(own, pt, eta, phi, type, jpt, jeta, jphi, jE, jvt, tag, met, metPhi);
                  },
                  {"chosen", "lep_pt", "lep_eta", "lep_phi", "lep_type", "jet_pt", "jet_eta", "jet_phi", "jet_E",
                   "jet_jvt", "jet_MV2c10", "met_et", "met_phi"})
          .Define("asked",  // a matrix nobody asks for is not made
                  [sums](const std::vector<double> &cells) {
                    double sum = cells[0];
                    if (sums) for (std::size_t i = 1; i < cells.size(); ++i) sum += cells[i];
                    return sum;
                  },
                  {"matrix"});
  auto histogram = selected.Histo1D<double, double>({"met", "", 50, 0., 500.}, "met", "weight");
  auto count = selected.Count();
  auto total = selected.Sum<double>("asked");
  std::vector<double> answer{double(*count), *total};
  for (int bin = 0; bin < 52; ++bin) answer.push_back(histogram->GetBinContent(bin));
  return answer;
}

}  // namespace witness
"""


REPEAT_CPP = r"""
#include <TFile.h>
#include <TTree.h>
namespace throughput {
void repeat(const char *from, const char *to, const char *name, long entries) {
  TFile in(from);
  auto source = in.Get<TTree>(name);
  TFile out(to, "RECREATE", "", 101);  // zlib, level 1
  auto tree = source->CloneTree(0);
  tree->SetAutoFlush(25000);
  const long n = source->GetEntries();
  for (long i = 0; i < entries; ++i) { source->GetEntry(i % n); tree->Fill(); }
  out.Write("", TObject::kOverwrite);
}
}
"""


def repeated(source: str, target: str, tree: str, events: int) -> None:
    """Writes a file that repeats the events of another one, all branches, in clusters of 25 000."""
    ROOT.gInterpreter.Declare(REPEAT_CPP)
    ROOT.throughput.repeat(source, target, tree, events)


def compiled(directory: Path) -> float:
    """Compiles physics and event loop with the system's compiler; seconds."""
    source = directory / "throughput_peer.cxx"
    source.write_text(FILES_CPP + PHYSICS_CPP + LOOP_CPP, encoding="utf-8")
    begin = time.perf_counter()
    if not ROOT.gSystem.CompileMacro(str(source), "kO"):
        sys.exit("the peer in C++ does not compile: is there a compiler?")
    return time.perf_counter() - begin


def interpreted(files: list[dict[str, Any]], leptons: int) -> float:
    """The same as strings for ROOT's just-in-time compiler, as one writes it in a notebook; seconds of the loop."""
    paths = ROOT.std.vector("std::string")()
    for file in files:
        paths.push_back(file["path"])
    three = "true" if leptons == 3 else "false"
    more = "lep_eta, lep_type, lep_etcone20, lep_ptcone30, lep_z0, lep_tracksigd0pvunbiased, lep_isTightID"
    frame = (
        ROOT.RDataFrame("mini", paths)
        .DefinePerSample("sample", "witness::numberOf(rdfsampleinfo_.AsString())")
        .Define("chosen", f"witness::good({three}, lep_pt, {more})")
        .Filter(f"chosen.size() == {leptons}")
        .Define(
            "weight",
            "witness::weight(sample, mcWeight, scaleFactor_PILEUP, scaleFactor_ELE, scaleFactor_MUON, "
            "scaleFactor_LepTRIGGER)",
        )
        .Define("met", "met_et / 1000.0")
        .Define(
            "matrix",
            f"witness::matrix(chosen, {LEPTON}, jet_pt, jet_eta, jet_phi, jet_E, jet_jvt, jet_MV2c10, met_et, met_phi)",
        )
        .Define("asked", "matrix[0]")
    )
    begin = time.perf_counter()
    histogram, total = frame.Histo1D(("met", "", 50, 0.0, 500.0), "met", "weight"), frame.Sum("asked")
    histogram.GetEntries()
    total.GetValue()
    return time.perf_counter() - begin


def main() -> None:
    """Answers requests: {"how": "compiled" | "interpreted", "files": [...], "leptons": 2, "sums": false}.

    Or {"how": "repeat", "source": ..., "target": ..., "events": ...} of a file of the release of 2025.
    """
    directory = Path(sys.argv[1])
    compiling: dict[str, float] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["how"] == "repeat":
            repeated(request["source"], request["target"], "analysis", request["events"])
            print("{}", flush=True)
            continue
        begin = time.perf_counter()
        if request["how"] not in compiling:
            if request["how"] == "compiled":
                compiled(directory)
            else:
                ROOT.gInterpreter.Declare(FILES_CPP)
                ROOT.gInterpreter.Declare(PHYSICS_CPP)
            compiling[request["how"]] = time.perf_counter() - begin
        ROOT.witness.forget()
        for file in request["files"]:
            ROOT.witness.add(file["path"], file["norm"], int(file["data"]))
        answer: dict[str, Any] = {"compiling": compiling[request["how"]]}
        if request["how"] == "compiled":
            begin = time.perf_counter()
            seen = list(ROOT.witness.loop(request["leptons"], request["sums"]))
            answer["seconds"] = time.perf_counter() - begin
            answer |= {"selected": int(seen[0]), "sum_of_cells": seen[1], "histogram": seen[2:]}
        else:
            answer["seconds"] = interpreted(request["files"], request["leptons"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

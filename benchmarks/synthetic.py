"""A fileset of any size: demo files repeated under new identities, with the baskets and compression of the release.

ROOT copies the compressed baskets of all branches but one, so that a million events take half a second: each file gets
its own UUID and event numbers that no other file of its dataset has. What is repeated are kinematics, on which no
cost depends.

    python benchmarks/synthetic.py DIRECTORY --events 1e6
"""

import argparse
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["DEMO", "make_fileset", "repeat"]

DEMO = Path(__file__).parents[1] / "fileset" / "demo" / "2lep"

# Demo files that are repeated: collision data, the largest backgrounds and one with many objects, in equal parts.
SOURCES = (
    "Data/data_A.2lep.root",
    "MC/mc_361107.Zmumu.2lep.root",
    "MC/mc_410000.ttbar_lep.2lep.root",
    "MC/mc_363491.lllv.2lep.root",
)
EVENTS_PER_FILE = 250_000
CLUSTER = 25_000
_ZLIB = 101  # the release's files: algorithm 1, level 1

_CPP = r"""
#include <TFile.h>
#include <TTree.h>
namespace synthetic {
// The entries of a tree again and again, without eventNumber, as clusters of the given number of entries.
void prototype(const char *from, const char *to, long entries, long cluster, int compression) {
  TFile in(from);
  auto source = in.Get<TTree>("mini");
  TFile out(to, "RECREATE", "", compression);
  source->SetBranchStatus("eventNumber", false);
  auto tree = source->CloneTree(0);
  tree->SetAutoFlush(cluster);
  const long n = source->GetEntries();
  for (long i = 0; i < entries; ++i) { source->GetEntry(i % n); tree->Fill(); }
  out.Write("", TObject::kOverwrite);
}
// The same baskets, with event numbers that begin at `first`.
void renumbered(const char *from, const char *to, int first, long cluster, int compression) {
  TFile in(from);
  auto source = in.Get<TTree>("mini");
  TFile out(to, "RECREATE", "", compression);
  auto tree = source->CloneTree(-1, "fast");
  int number = first;
  auto branch = tree->Branch("eventNumber", &number, "eventNumber/I", 4 * cluster + 1024);
  const long n = tree->GetEntries();
  for (long i = 0; i < n; ++i, ++number) {
    branch->Fill();
    if ((i + 1) % cluster == 0) branch->FlushBaskets();
  }
  out.Write("", TObject::kOverwrite);
}
}
"""


@cache
def _root() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the wheel is an alpha version
        import ROOT  # noqa: PLC0415 - only the extra [simulate] has it
    ROOT.gROOT.SetBatch(True)
    ROOT.gInterpreter.Declare(_CPP)
    return ROOT.synthetic


def repeat(source: Path, target: Path, events: int, *, first: int = 1) -> Path:
    """Writes a file that repeats the events of another one.

    Args:
        source: file with a tree `mini`.
        target: file to write.
        events: in the new file.
        first: its first eventNumber; the others follow.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prototype = target.parent / f".prototype-{source.stem}-{events}.root"
    if not prototype.is_file():
        _root().prototype(str(source), str(prototype), events, CLUSTER, _ZLIB)
    _root().renumbered(str(prototype), str(target), first, CLUSTER, _ZLIB)
    return target


def make_fileset(directory: Path, events: int, *, per_file: int = EVENTS_PER_FILE) -> Path:
    """Writes a fileset in coffea's form, and the files that are not there yet.

    A larger fileset in the same directory takes the files of a smaller one, and adds to them.

    Args:
        directory: of the files.
        events: in all; rounded to whole files of each source.
        per_file: events in a file.

    Returns:
        The fileset: datasets with all their files, as JSON.
    """
    files_each = max(round(events / per_file / len(SOURCES)), 1)
    fileset = {}
    for source in SOURCES:
        files = []
        for number in range(files_each):
            # Names tell the dataset, so files of one dataset lie in folders of their own.
            target = directory / f"part{number:04d}" / Path(source).name
            if not target.is_file():
                made = directory / "making.root"
                repeat(DEMO / source, made, per_file, first=1 + number * per_file)
                target.parent.mkdir(parents=True, exist_ok=True)
                made.replace(target)
            files.append(str(target.resolve()))
        name = Path(source).stem.removeprefix("mc_")
        fileset[name] = {"files": dict.fromkeys(files, "mini")}
    path = directory / f"fileset-{files_each * len(SOURCES) * per_file}.json"
    path.write_text(json.dumps(fileset, indent=1), encoding="utf-8")
    return path


def main() -> None:
    """Makes a fileset."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--events", type=float, default=1e6, help="in all [1e6]")
    given = parser.parse_args()
    print(make_fileset(given.directory, int(given.events)))


if __name__ == "__main__":
    main()

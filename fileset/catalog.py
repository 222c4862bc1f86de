"""The catalogues: what is known about every sample of a release, typed on load.

A catalogue holds facts only. Where files are is decided by `fileset.resolve`, how a file is normalised by
`fileset.normalisation`.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from fileset.exceptions import InputError
from fileset.suggestion import did_you_mean

__all__ = [
    "CATALOGS",
    "DEMO",
    "Catalog",
    "Group",
    "Overlap",
    "RemoteFile",
    "Sample",
    "Skim",
    "expand_dsids",
    "load_catalog",
]

FORMAT = 1
_HERE = Path(__file__).parent
DEMO = _HERE / "demo"
CATALOGS: Mapping[str, Path] = {
    "demo": DEMO / "catalog.yaml",
    "atlas-2020": _HERE / "catalogs" / "atlas-2020.yaml",
    "atlas-2025": _HERE / "catalogs" / "atlas-2025.yaml",
}

# Where the files of the CERN Open Data portal are served, by protocol.
_SERVERS = {"root": "root://eospublic.cern.ch/", "https": "https://opendata.cern.ch"}

Kind = Literal["data", "background", "signal"]
WrongInFile = Literal["", "dummy", "xsec"]


@dataclass(frozen=True)
class Group:
    """A process group: what is drawn as one colour."""

    key: str
    label: str
    color: str
    kind: Kind
    order: int


@dataclass(frozen=True)
class Skim:
    """A preselection of the release by number of leptons."""

    key: str
    title: str = ""
    min_leptons: int = 0
    max_leptons: int | None = None
    doi: str = ""
    data_doi: str = ""
    entries: int | None = None
    data_entries: int | None = None


@dataclass(frozen=True)
class Overlap:
    """Samples that simulate the same events in several ways; only one choice may be read.

    `choices` maps the name of a choice to its dataset numbers; the first one is the default.
    """

    name: str
    reason: str
    choices: Mapping[str, frozenset[int]]

    def chosen(self, dsids: Iterable[int]) -> dict[str, list[int]]:
        """Dataset numbers among `dsids` by choice, sorted, without the empty choices."""
        wanted = set(dsids)
        found = {name: sorted(wanted & ids) for name, ids in self.choices.items()}
        return {name: ids for name, ids in found.items() if ids}

    @property
    def not_default(self) -> frozenset[int]:
        """Dataset numbers of every choice but the first."""
        return frozenset().union(*list(self.choices.values())[1:])


@dataclass(frozen=True)
class Sample:
    """One simulated sample.

    `xsec_pb` is the effective cross section [pb], filter efficiency and k-factor included; `sumw` the sum of
    generator weights by skim (empty where none is published). `wrong_in_file` says that the branches of the file
    are dummies or that its cross section lacks a factor.
    """

    dsid: int
    name: str
    group: str
    kind: Kind
    xsec_pb: float
    xsec_source: str
    sumw: Mapping[str, float] = field(default_factory=dict)
    generator_xsec_pb: float | None = None
    filter_efficiency: float | None = None
    k_factor: float | None = None
    n_events: int | None = None
    wrong_in_file: WrongInFile = ""
    model: Mapping[str, float | str] = field(default_factory=dict)
    process: str = ""
    generator: str = ""
    notes: str = ""


@dataclass(frozen=True)
class RemoteFile:
    """A file of the release: its name, where it is served, its size [bytes] and checksum."""

    skim: str
    dsid: int
    name: str
    path: str
    size: int
    checksum: str

    def uri(self, protocol: str = "root") -> str:
        """The file's address by XRootD (`root`) or over the web (`https`)."""
        return _SERVERS[protocol] + self.path

    @property
    def filename(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Catalog:
    """Everything known about a release, or about a simulated sample in a release's format.

    `lumi_pb` is the integrated luminosity [1/pb] by skim, `periods` that of single data files.
    """

    name: str
    release: str
    sample: str
    tree: str
    energy_unit: str
    sqrt_s_gev: float
    lumi_pb: Mapping[str, float]
    groups: Mapping[str, Group]
    samples: Mapping[int, Sample]
    skims: Mapping[str, Skim]
    regions: Mapping[str, tuple[str, ...]]
    periods: Mapping[str, float] = field(default_factory=dict)
    overlaps: tuple[Overlap, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[RemoteFile, ...]] = field(default_factory=dict)
    title: str = ""
    licence: str = ""
    generator: Mapping[str, Any] = field(default_factory=dict)

    @property
    def families(self) -> tuple[str, ...]:
        """Keys of the signal families, in order."""
        signals = [group for group in self.groups.values() if group.kind == "signal"]
        return tuple(group.key for group in sorted(signals, key=lambda group: group.order))

    def doi(self, skim: str, *, data: bool = False) -> str:
        """DOI of the record that holds a skim, empty where there is none."""
        known = self.skims.get(skim)
        if known is None:
            return ""
        return (known.data_doi or known.doi) if data else known.doi

    def remote_file(self, skim: str, filename: str) -> RemoteFile | None:
        """What the release says about a file of this name."""
        return _by_name(self, skim).get(filename)

    def check_overlaps(self, dsids: Iterable[int]) -> None:
        """Refuse samples that must not be added.

        Raises:
            InputError: two choices of one overlap are among `dsids`; the message says which to drop.
        """
        dsids = set(dsids)
        for overlap in self.overlaps:
            chosen = overlap.chosen(dsids)
            if len(chosen) > 1:
                (kept, _), *dropped = chosen.items()
                extra = " and ".join(f"{name} ({_ranges(ids)})" for name, ids in dropped)
                msg = (
                    f"{kept} ({_ranges(chosen[kept])}) and {extra} must not be added, {overlap.reason}: "
                    f"drop {extra}, or {kept}, with dsids or exclude."
                )
                raise InputError(msg)

    def default_dsids(self) -> frozenset[int]:
        """Dataset numbers read when nothing is asked for: one choice of each overlap, no group left out."""
        alternatives: frozenset[int] = frozenset().union(*(overlap.not_default for overlap in self.overlaps))
        return frozenset(
            dsid
            for dsid, sample in self.samples.items()
            if dsid not in alternatives and sample.group not in self.left_out
        )

    def group_dsids(self, groups: Iterable[str]) -> frozenset[int]:
        """Dataset numbers of groups, one choice of each overlap.

        Raises:
            InputError: a group that the catalogue does not have.
        """
        wanted = set(groups)
        for key in sorted(wanted - set(self.groups)):
            hint = did_you_mean(key, self.groups, otherwise=f"there are {', '.join(self.groups)}.")
            msg = f"Unknown process group {key!r} of {self.name}: {hint}"
            raise InputError(msg)
        alternatives: frozenset[int] = frozenset().union(*(overlap.not_default for overlap in self.overlaps))
        return frozenset(
            dsid
            for dsid, sample in self.samples.items()
            if sample.group in wanted and dsid not in alternatives
        )


@lru_cache(maxsize=64)
def _names_of(files: tuple[RemoteFile, ...]) -> dict[str, RemoteFile]:
    return {file.filename: file for file in files}


def _by_name(catalog: Catalog, skim: str) -> dict[str, RemoteFile]:
    return _names_of(catalog.files.get(skim, ()))


def _ranges(dsids: Iterable[int]) -> str:
    """Dataset numbers as text, neighbours joined: `364100-364102, 364110`."""
    runs: list[list[int]] = []
    for dsid in sorted(dsids):
        if runs and dsid == runs[-1][1] + 1:
            runs[-1][1] = dsid
        else:
            runs.append([dsid, dsid])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def expand_dsids(text: str | int) -> frozenset[int]:
    """Dataset numbers written as numbers and ranges: `364100-364141, 363490`.

    Raises:
        ValueError: the text is not of this form.
    """
    numbers: set[int] = set()
    for part in str(text).split(","):
        first, _, last = part.strip().partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def load_catalog(source: str | Path) -> Catalog:
    """Read a catalogue.

    Args:
        source: `atlas-2020`, `atlas-2025`, `demo`, or the path of a `catalog.yaml` or of the directory holding it.

    Returns:
        The catalogue; the same object for the same unchanged file.

    Raises:
        InputError: there is no such catalogue, or the file is not one.
    """
    path = CATALOGS.get(str(source), Path(source))
    if path.is_dir():
        path /= "catalog.yaml"
    if not path.is_file():
        otherwise = f"there are {', '.join(CATALOGS)}, or give a path."
        hint = did_you_mean(str(source), CATALOGS, otherwise=otherwise)
        msg = f"Unknown catalogue {str(source)!r}: {hint}"
        raise InputError(msg)
    return _load(path.absolute(), path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _load(path: Path, _changed: int) -> Catalog:
    try:
        facts = yaml.load(path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            msg = f"{path} is not a catalogue of format {FORMAT}."
            raise InputError(msg)
        return _typed(path, facts)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} is not a valid catalogue: {' '.join(str(error).split()) or type(error).__name__}."
        raise InputError(msg) from error


def _typed(path: Path, facts: dict[str, Any]) -> Catalog:
    inline = facts.get("samples")
    lumi = facts["lumi_pb"]
    skims = {
        key: Skim(key=key, **(entry or {}))
        for key, entry in (facts.get("skims") or ({key: {} for key in lumi} if inline else {})).items()
    }
    groups = {key: Group(key=key, **entry) for key, entry in facts["groups"].items()}
    if "data" not in groups:
        groups["data"] = Group("data", "Data", "#000000", "data", 0)
    if inline is None:
        samples = _samples_from_table(path.with_name(f"{path.stem}-samples.csv"), tuple(skims))
        files = _files_from_table(path.with_name(f"{path.stem}-files.csv"), facts, samples)
    else:
        samples = {int(dsid): _inline_sample(int(dsid), entry, groups) for dsid, entry in inline.items()}
        files = {}
    return Catalog(
        name=str(facts["name"]),
        release=str(facts["release"]),
        sample=str(facts.get("sample", "atlas-open-data")),
        tree=str(facts["tree"]),
        energy_unit=str(facts["energy_unit"]),
        sqrt_s_gev=float(facts["sqrt_s_GeV"]),
        lumi_pb={key: float(lumi[key] if isinstance(lumi, dict) else lumi) for key in skims},
        groups=groups,
        samples=samples,
        skims=skims,
        regions={key: tuple(value) for key, value in facts.get("regions", _REGIONS_2020).items()},
        periods={key: float(value) for key, value in facts.get("periods", {}).items()},
        overlaps=tuple(
            Overlap(
                name=name,
                reason=entry["reason"],
                choices={choice: expand_dsids(ids) for choice, ids in entry["choices"].items()},
            )
            for name, entry in (facts.get("overlaps") or {}).items()
        ),
        left_out=dict(facts.get("left_out") or {}),
        files=files,
        title=str(facts.get("title", "")),
        licence=str(facts.get("licence", "")),
        generator=dict(facts.get("generator") or {}),
    )


_REGIONS_2020 = {"2L": ("2lep", "exactly2lep"), "3L": ("3lep",)}


def _inline_sample(dsid: int, entry: dict[str, Any], groups: Mapping[str, Group]) -> Sample:
    entry = dict(entry)
    if entry["group"] not in groups:
        msg = f"sample {dsid} belongs to group {entry['group']!r}, which is not among the groups"
        raise ValueError(msg)
    notes = entry.get("notes") or ""
    return Sample(
        dsid=dsid,
        name=str(entry["name"]),
        group=entry["group"],
        kind=entry["kind"],
        xsec_pb=float(entry["xsec_pb"]),
        xsec_source=str(entry.get("xsec_source", "")),
        sumw={skim: float(value) for skim, value in entry["sumw"].items()},
        n_events=_events(entry.get("n_generated")),
        model=dict(entry.get("model") or {}),
        notes="; ".join(notes) if isinstance(notes, list) else str(notes),
    )


def _events(value: Any) -> int | None:
    """Generated events, a number or one by skim."""
    return sum(value.values()) if isinstance(value, dict) else value


def _samples_from_table(path: Path, skims: tuple[str, ...]) -> dict[int, Sample]:
    with path.open(newline="", encoding="utf-8") as table:
        return {int(row["dsid"]): _table_sample(row, skims) for row in csv.DictReader(table)}


def _table_sample(row: dict[str, str], skims: tuple[str, ...]) -> Sample:
    sumw = _number(row["sumw"])
    events = _number(row["n_events"])
    kind, wrong = row["kind"], row["wrong_in_file"]
    if (kind not in {"background", "signal"}) or (wrong not in {"", "dummy", "xsec"}):
        msg = f"sample {row['dsid']} is of kind {kind!r} and wrong in file {wrong!r}"
        raise ValueError(msg)
    return Sample(
        dsid=int(row["dsid"]),
        name=row["name"],
        group=row["group"],
        kind=kind,  # type: ignore[arg-type]  # checked above
        xsec_pb=float(row["xsec_pb"]),
        xsec_source=row["xsec_source"],
        sumw={} if sumw is None else dict.fromkeys(skims, sumw),
        generator_xsec_pb=_number(row["generator_xsec_pb"]),
        filter_efficiency=_number(row["filter_efficiency"]),
        k_factor=_number(row["k_factor"]),
        n_events=None if events is None else int(events),
        wrong_in_file=wrong,  # type: ignore[arg-type]  # checked above
        model=_model(row["model"]),
        process=row["process"],
        generator=row["generator"],
        notes=row["notes"],
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def _model(text: str) -> dict[str, float | str]:
    """Model parameters from `name=value;name=value`: numbers where they are."""
    parameters: dict[str, float | str] = {}
    for part in filter(None, text.split(";")):
        name, _, value = part.partition("=")
        try:
            parameters[name] = float(value)
        except ValueError:
            parameters[name] = value
    return parameters


def _files_from_table(
    path: Path, facts: dict[str, Any], samples: Mapping[int, Sample]
) -> dict[str, tuple[RemoteFile, ...]]:
    files: dict[str, list[RemoteFile]] = {}
    with path.open(newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            skim, sample = row["skim"], row["sample"]
            dsid = int(sample) if sample.isdigit() else 0
            name = samples[dsid].name if dsid else sample
            template = facts["simulation_file"] if dsid else facts["data_file"]
            place = f"{facts['directory']}/{template}".format(skim=skim, dsid=dsid, name=name)
            files.setdefault(skim, []).append(
                RemoteFile(skim, dsid, name, place, int(row["size"]), f"adler32:{row['adler32']}")
            )
    return {skim: tuple(entries) for skim, entries in files.items()}

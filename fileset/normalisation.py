"""How a sample is normalised: cross section x luminosity / sum of weights, from the most trustworthy source.

The sources, in order: a `catalog.yaml` beside the files; the release's catalogue, where the file's own sum of
weights agrees or is known to be wrong; the file's own branches, with a warning.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fileset.catalog import CATALOGS, Catalog, Sample, load_catalog
from fileset.exceptions import InputError
from fileset.findings import Finding

__all__ = ["InFile", "Knowledge", "known_about", "luminosity", "normalise"]

RELEASE_CATALOGS: Mapping[str, str] = {"2020": "atlas-2020", "2025": "atlas-2025"}

# XSection and SumWeights are float32 in the 2020 files, and some tables are rounded.
SUMW_TOLERANCE = 1e-4
XSEC_TOLERANCE = 1e-3

# A catalog.yaml may lie beside a file, or above the folders MC and <skim> of the release's layout.
_LEVELS_UP = 3


@dataclass(frozen=True)
class InFile:
    """Cross section [pb] and sum of weights as stored in a file."""

    xsec_pb: float
    sumw: float

    @property
    def is_dummy(self) -> bool:
        """Whether both are placeholders: 1, or nothing."""
        return self.sumw <= 0 or self.xsec_pb <= 0 or (self.xsec_pb == 1 and self.sumw == 1)


@dataclass(frozen=True)
class Knowledge:
    """The catalogues that may know a file: one beside it, and that of its release."""

    beside: Catalog | None
    release: Catalog | None

    @property
    def first(self) -> Catalog | None:
        """The catalogue that is asked first."""
        return self.beside or self.release

    def sample(self, dsid: int) -> tuple[Catalog, Sample] | None:
        """What is known about a dataset number, and by which catalogue."""
        for catalog in (self.beside, self.release):
            if catalog and dsid in catalog.samples:
                return catalog, catalog.samples[dsid]
        return None


def known_about(path: str, release: str) -> Knowledge:
    """Find the catalogues for a file.

    Args:
        path: of the file; only a local path has a catalogue beside it.
        release: `2020` or `2025`.
    """
    beside = None
    if "://" not in path:
        for folder in list(Path(path).parents)[:_LEVELS_UP]:
            candidate = folder / "catalog.yaml"
            if candidate.is_file():
                beside = load_catalog(candidate)
                break
    name = RELEASE_CATALOGS.get(release)
    return Knowledge(beside, load_catalog(CATALOGS[name]) if name else None)


def luminosity(
    knowledge: Knowledge, skim: str, periods: Collection[str], *, needed: bool, override: float | None = None
) -> float | None:
    """Integrated luminosity [1/pb] that simulation of a skim is normalised to.

    Args:
        knowledge: the catalogues of the skim's files.
        skim: key of the skim.
        periods: names of the data files read (`data_A`); none means the release's full luminosity.
        needed: whether there is simulation to normalise.
        override: luminosity asked for.

    Returns:
        The luminosity; None where no simulation needs it and the periods' is not known.

    Raises:
        InputError: simulation is read and the luminosity of the data beside it is not known.
    """
    if override is not None:
        return override
    if knowledge.beside and skim in knowledge.beside.lumi_pb:
        return knowledge.beside.lumi_pb[skim]
    catalog = knowledge.first
    if catalog is None or not catalog.lumi_pb:
        if needed:
            msg = f"The luminosity of the files of skim {skim or '(unknown)'} is not known: give it with lumi_pb."
            raise InputError(msg)
        return None
    full = catalog.lumi_pb.get(skim, max(catalog.lumi_pb.values()))
    present = set(periods)
    everything = set(catalog.periods) or {file.name for file in catalog.files.get(skim, ()) if not file.dsid}
    if not present or (everything and present >= everything):
        return full
    unknown = sorted(present - set(catalog.periods))
    if not unknown:
        return sum(catalog.periods[period] for period in present)
    if needed:
        msg = (
            f"The luminosity of {unknown[0]} is not in {catalog.name}, and simulation is normalised to the data "
            "periods read: give it with lumi_pb."
        )
        raise InputError(msg)
    return None


def _differ(one: float, other: float, tolerance: float) -> bool:
    return abs(one - other) > tolerance * abs(other)


def normalise(
    metadata: Mapping[str, Any], in_file: InFile | None, knowledge: Knowledge, *, file: str = ""
) -> tuple[dict[str, Any], list[Finding]]:
    """Choose cross section and sum of weights of a simulated dataset.

    Args:
        metadata: of the dataset; `dsid`, `skim`, `kind` and `lumi_pb` are used.
        in_file: what the file says, None where it says nothing (an empty file, missing branches, not opened yet).
        knowledge: the catalogues of its files.
        file: the file's path, for messages.

    Returns:
        `xsec_pb`, `sumw`, `norm` (= xsec_pb lumi_pb / sumw; 1 for data) and `norm_source`, and what was found. `norm`
        is None where the dataset cannot be normalised.
    """
    if metadata["kind"] == "data":
        return {"xsec_pb": None, "sumw": None, "norm": 1.0, "norm_source": "data"}, []
    xsec, sumw, source, findings = _choose(metadata, in_file, knowledge, file)
    lumi = metadata.get("lumi_pb")
    norm = xsec * lumi / sumw if xsec is not None and sumw and lumi is not None else None
    return {"xsec_pb": xsec, "sumw": sumw, "norm": norm, "norm_source": source}, findings


def _choose(
    metadata: Mapping[str, Any], in_file: InFile | None, knowledge: Knowledge, file: str
) -> tuple[float | None, float | None, str, list[Finding]]:
    dsid, skim = metadata["dsid"], metadata["skim"]
    where = (str(metadata.get("dataset", "")), file)
    beside = knowledge.beside
    if beside and dsid in beside.samples and skim in beside.samples[dsid].sumw:
        sample = beside.samples[dsid]
        found = _compare(sample, sample.sumw[skim], in_file, "catalog.yaml", where)
        return sample.xsec_pb, sample.sumw[skim], "catalog.yaml beside the files", found
    release = knowledge.release
    sample_known = release.samples.get(dsid) if release else None
    if release and sample_known:
        published = sample_known.sumw.get(skim) or next(iter(sample_known.sumw.values()), None)
        if published is not None and _trusted(sample_known, published, in_file):
            source = f"catalogue {release.name}"
            return (
                sample_known.xsec_pb,
                published,
                source,
                _compare(sample_known, published, in_file, release.name, where),
            )
        if published is None and in_file and in_file.sumw > 1:
            message = f"no sum of weights of {dsid} is published, {in_file.sumw:g} of the file is used"
            finding = Finding("sum of weights from file", message, *where)
            return sample_known.xsec_pb, in_file.sumw, "in-file", [finding]
    if in_file is None:
        return None, None, "in-file", []
    if in_file.is_dummy:
        message = (
            f"{file or where[0]} holds the dummies XSection = {in_file.xsec_pb:g} and SumWeights = "
            f"{in_file.sumw:g}, and no catalogue replaces them for dataset number {dsid}"
        )
        return None, None, "in-file", [Finding("no normalisation", message, *where)]
    expected = f"; {release.name} expects another sum of weights" if release and sample_known else ""
    message = (
        f"dataset {where[0] or dsid} is normalised with {in_file.xsec_pb:g} pb and a sum of weights of "
        f"{in_file.sumw:g} from its file{expected}"
    )
    return in_file.xsec_pb, in_file.sumw, "in-file", [Finding("in-file normalisation", message, *where)]


def _trusted(sample: Sample, published: float, in_file: InFile | None) -> bool:
    """Whether the catalogue speaks of the events of this file."""
    if in_file is None or sample.wrong_in_file == "dummy":
        return True
    return not _differ(in_file.sumw, published, SUMW_TOLERANCE)


def _compare(
    sample: Sample, sumw: float, in_file: InFile | None, source: str, where: tuple[str, str]
) -> list[Finding]:
    """Differences between the chosen values and those of the file, known ones as notes."""
    if in_file is None:
        return []
    if sample.wrong_in_file == "dummy" and in_file.is_dummy:
        message = f"{sample.dsid} {sample.name}: {sample.notes or 'the file holds dummies'}; {source} is used"
        return [Finding("known in file", message, *where)]
    findings = []
    if _differ(in_file.sumw, sumw, SUMW_TOLERANCE):
        message = (
            f"{sample.dsid} {sample.name}: sum of weights {in_file.sumw:g} in the file, {sumw:g} in {source}"
        )
        findings.append(Finding("sum of weights", message, *where))
    if _differ(in_file.xsec_pb, sample.xsec_pb, XSEC_TOLERANCE):
        known = sample.wrong_in_file == "xsec"
        message = (
            f"{sample.dsid} {sample.name}: {in_file.xsec_pb:g} pb in the file, {sample.xsec_pb:g} pb in {source}"
            + (f" ({sample.notes})" if known else "")
        )
        findings.append(Finding("known in file" if known else "cross section", message, *where))
    return findings

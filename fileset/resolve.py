"""From what the user names to a coffea fileset: which files, in which datasets, with what is known about each.

Nothing is opened here; `fileset.audit` looks into the files and completes the normalisation.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from fileset.catalog import CATALOGS, DEMO, Catalog, load_catalog
from fileset.exceptions import InputError
from fileset.filenames import FileName, parse
from fileset.normalisation import RELEASE_CATALOGS, Knowledge, known_about, luminosity, normalise
from fileset.settings import FilesetSettings
from fileset.suggestion import did_you_mean

__all__ = ["Fileset", "resolve", "selections"]

Fileset = dict[str, dict[str, Any]]
# Names of regions; or region -> the skims that serve it, the best first.
Regions: TypeAlias = Sequence[str] | Mapping[str, Sequence[str]]

_log = logging.getLogger(__name__)

_DEFAULT_RELEASE = "2020"
_UNKNOWN_GROUP = {"group": "other", "label": "Other", "color": "#717581"}


@dataclass(frozen=True)
class _Source:
    """A file to read: its path or address, its name read, and the metadata that came with it."""

    path: str
    name: FileName
    tree: str = ""
    given: Mapping[str, Any] | None = None
    dataset: str = ""

    @property
    def key(self) -> str:
        return self.dataset or self.name.dataset


def resolve(settings: FilesetSettings, regions: Regions) -> Fileset:
    """The coffea fileset of what the user asks for.

    Args:
        settings: catalogue, directory, coffea fileset or list of files, and what to keep of it.
        regions: the regions that will be selected, such as `("2L", "3L")`, or with the skims that serve each.

    Returns:
        Of each dataset its `files` (path or address to tree) and `metadata`, sorted; plain JSON types.

    Raises:
        InputError: it cannot be found, does not serve a region, or holds samples that must not be added.
    """
    name = settings.fileset
    path = Path(name).expanduser()
    if name == "demo" and not DEMO.is_dir():
        msg = "The demo sample is missing: make it with the verb simulate, or take another fileset."
        raise InputError(msg)
    if name.startswith("atlasopenmagic:"):
        from fileset.openmagic import release_files  # noqa: PLC0415  an optional client of a web service

        sources = [
            _source(address)
            for address in release_files(
                name.partition(":")[2], settings.skim, settings.protocol, settings.dsids
            )
        ]
        skims = _one_skim_for_all(sources, regions)
    elif name == "demo" or (path.is_dir() and name not in CATALOGS):
        sources, skims = _from_directory(DEMO if name == "demo" else path, settings, regions)
    elif name in CATALOGS:
        sources, skims = _from_catalog(load_catalog(name), settings, regions)
    elif path.is_file() and path.suffix == ".json":
        sources = list(_from_json(path))
        skims = _skims_or_all(sources, regions)
    elif path.is_file() and path.suffix == ".txt":
        sources = list(_from_list(path))
        skims = _skims_or_all(sources, regions)
    elif name.endswith(".root") and ("://" in name or path.is_file()):
        sources = [_source(name if "://" in name else _local_path(path))]
        skims = _one_skim_for_all(sources, regions)
    else:
        raise InputError(_not_found(name))
    sources = _keep(sources, settings)
    fileset = _assemble(sources, skims, settings)
    _check_overlaps(fileset)
    return fileset


def selections(settings: FilesetSettings, regions: Regions) -> dict[str, str]:
    """What names the files that the user asks for, region by region; the same name, the same files.

    Only directories are named: what is in them is found by looking, so that nobody notices when a file is gone. A
    list of files, or a catalogue, says itself what it should have.
    """
    path = DEMO if settings.fileset == "demo" else Path(settings.fileset).expanduser()
    if settings.fileset in set(CATALOGS) - {"demo"} or not path.is_dir():
        return {}
    asked = settings.model_dump(mode="json", include={"skim", "groups", "dsids", "exclude"})
    return {
        region: json.dumps(
            {
                **asked,
                "directory": str(path.resolve()),
                "region": region,
                "skims": list(regions[region]) if isinstance(regions, Mapping) else [],
            },
            sort_keys=True,
        )
        for region in regions
    }


def _not_found(name: str) -> str:
    hint = did_you_mean(name, CATALOGS)
    if hint:
        return f"Unknown fileset {name!r}: {hint}"
    if any(mark in name for mark in (os.sep, ".")):
        return (
            f"{name} does not exist: give a directory, a .json or .txt file, or one of {', '.join(CATALOGS)}."
        )
    return f"Unknown fileset {name!r}: there are {', '.join(CATALOGS)}, or give a directory or file."


def _source(path: str, **given: Any) -> _Source:
    name = parse(path)
    if name is None:
        msg = (
            f"The name of {path} tells no dataset number: call it mc_<dsid>.<name>.<skim>.root or "
            "data_<period>.<skim>.root, or put data into a folder Data."
        )
        raise InputError(msg)
    return _Source(path, name, **given)


# --- which skims serve which region ---------------------------------------------------------------------------


def _one_skim_for_all(sources: Iterable[_Source], regions: Regions) -> dict[str, tuple[str, ...]]:
    return {skim: tuple(regions) for skim in {source.name.skim for source in sources}}


def _skims_or_all(sources: Sequence[_Source], regions: Regions) -> dict[str, tuple[str, ...]]:
    """Regions of each skim of a list of files: by the release's rules where several skims are listed."""
    present = sorted({source.name.skim for source in sources})
    if len(present) <= 1:
        return _one_skim_for_all(sources, regions)
    return _regions_by_skim(present, _rules(sources), regions, "the files listed")


def _rules(sources: Iterable[_Source]) -> Catalog:
    release = next((source.name.release for source in sources if source.name.release), _DEFAULT_RELEASE)
    return load_catalog(RELEASE_CATALOGS[release])


def _regions_by_skim(
    present: Sequence[str], rules: Catalog, regions: Regions, place: str
) -> dict[str, tuple[str, ...]]:
    """For each skim the regions it serves; the first skim present of those that serve a region is taken."""
    chosen: dict[str, tuple[str, ...]] = {}
    for region in regions:
        wanted = _serving(rules, region, regions)
        skim = next((key for key in wanted if key in present), None)
        if skim is None:
            msg = (
                f"Region {region} needs the skim {' or '.join(wanted)} and {place} has {', '.join(present)}: "
                "name the skim to read with skim, or point to its directory."
            )
            raise InputError(msg)
        chosen[skim] = (*chosen.get(skim, ()), region)
    return chosen


def _serving(rules: Catalog, region: str, regions: Regions) -> tuple[str, ...]:
    """The skims that serve a region, the first that exists is read: those asked for, else the release's."""
    if isinstance(regions, Mapping) and regions[region]:
        return tuple(regions[region])
    if region not in rules.regions:
        msg = f"Unknown region {region!r}: there are {', '.join(rules.regions)}."
        raise InputError(msg)
    return rules.regions[region]


def _check_leptons(skim: str, regions: Iterable[str], rules: Catalog) -> None:
    """Refuse a skim that cannot hold events of a region, such as `exactly2lep` for 3L."""
    known = rules.skims.get(skim)
    for region in regions:
        needed = int(region[0]) if region in rules.regions else 0
        if known and known.max_leptons is not None and known.max_leptons < needed:
            msg = f"The skim {skim} holds no event of region {region}, it has {known.title}."
            raise InputError(msg)


# --- a catalogue ----------------------------------------------------------------------------------------------


def _from_catalog(
    catalog: Catalog, settings: FilesetSettings, regions: Regions
) -> tuple[list[_Source], dict[str, tuple[str, ...]]]:
    if settings.skim is None:
        skims = _regions_by_skim(list(catalog.files), catalog, regions, catalog.name)
    elif settings.skim in catalog.files:
        skims = {settings.skim: tuple(regions)}
        _check_leptons(settings.skim, regions, catalog)
    else:
        msg = f"{catalog.name} has no skim {settings.skim!r}: there are {', '.join(catalog.files)}."
        raise InputError(msg)
    wanted = _wanted_dsids(catalog, settings)
    local = _local_files(settings.local) if settings.local else {}
    sources: list[_Source] = []
    for skim in skims:
        for file in catalog.files[skim]:
            if file.dsid == 0 or file.dsid in wanted:
                path = local.get(file.filename) or file.uri(settings.protocol)
                sources.append(_source(path))
    found = {source.name.dsid for source in sources}
    missing = sorted(set(settings.dsids) - found - set(settings.exclude))
    if missing:
        msg = (
            f"{catalog.name} has no file of dataset number {missing[0]} in {' or '.join(skims)}: leave it out, or "
            "name another skim."
        )
        raise InputError(msg)
    return sources, skims


def _wanted_dsids(catalog: Catalog, settings: FilesetSettings) -> frozenset[int]:
    """Simulated samples asked for: those named, those of the groups named, else the catalogue's default."""
    if settings.dsids:
        unknown = sorted(set(settings.dsids) - set(catalog.samples) - {0})
        if unknown:
            near = min(catalog.samples, key=lambda dsid: abs(dsid - unknown[0]))
            msg = f"Unknown dataset number {unknown[0]} of {catalog.name}: the nearest is {near}."
            raise InputError(msg)
        return frozenset(settings.dsids) & frozenset(catalog.samples)
    if settings.groups:
        return catalog.group_dsids(settings.groups)
    left_out = sorted(set(catalog.left_out))
    if left_out:
        _log.info("%s: not read unless asked for: %s", catalog.name, ", ".join(left_out))
    return catalog.default_dsids()


def _local_files(directory: Path) -> dict[str, str]:
    """Path of every ROOT file below a directory by its name."""
    directory = directory.expanduser()
    if not directory.is_dir():
        msg = f"The directory of local files {directory} does not exist."
        raise InputError(msg)
    return {path.name: _local_path(path) for path in _root_files(directory)}


def _local_path(path: Path) -> str:
    """Absolute path; a link keeps its own name, for the name tells what is in the file."""
    return str(path.parent.resolve() / path.name)


# --- a directory ----------------------------------------------------------------------------------------------


def _root_files(directory: Path) -> Iterator[Path]:
    """ROOT files in the release's layout: in the directory, in its Data and MC, and in those of its skims."""
    for pattern in ("*.root", "*/*.root", "*/*/*.root"):
        yield from sorted(directory.glob(pattern))


def _from_directory(
    directory: Path, settings: FilesetSettings, regions: Regions
) -> tuple[list[_Source], dict[str, tuple[str, ...]]]:
    sources = [_source(_local_path(path)) for path in _root_files(directory)]
    if not sources:
        msg = f"{directory} holds no .root file, neither itself nor in <skim>/MC and <skim>/Data."
        raise InputError(msg)
    present = sorted({source.name.skim for source in sources})
    rules = _rules(sources)
    for region in regions:
        _serving(rules, region, regions)
    if settings.skim is not None:
        if settings.skim not in present:
            msg = f"{directory} has no skim {settings.skim!r}: there are {', '.join(present)}."
            raise InputError(msg)
        skims = {settings.skim: tuple(regions)}
    elif len(present) == 1 and _is_skim_directory(directory, sources):
        skims = {present[0]: tuple(regions)}
    else:
        skims = _regions_by_skim(present, rules, regions, str(directory))
    for skim, served in skims.items():
        _check_leptons(skim, served, rules)
    return sources, skims


def _is_skim_directory(directory: Path, sources: Iterable[_Source]) -> bool:
    """Whether the files lie in the directory itself, or in its Data and MC."""
    places = {Path(source.path).parent for source in sources}
    top = directory.resolve()
    return all(place == top or (place.parent == top and place.name in {"Data", "MC"}) for place in places)


# --- a coffea fileset, a list ---------------------------------------------------------------------------------


def _from_json(path: Path) -> Iterator[_Source]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} is not a JSON file: {error}."
        raise InputError(msg) from error
    if not isinstance(content, dict) or not content:
        msg = f"{path} is not a coffea fileset: it must map datasets to their files."
        raise InputError(msg)
    for dataset, entry in content.items():
        files = entry.get("files") if isinstance(entry, dict) else entry
        if not isinstance(files, dict | list) or not files:
            msg = f"{path} is not a coffea fileset: dataset {dataset} has no files."
            raise InputError(msg)
        given = (entry.get("metadata") or {}) if isinstance(entry, dict) else {}
        for file in files:
            tree = files[file] if isinstance(files, dict) else ""
            if isinstance(tree, dict):
                tree = tree.get("object_path", "")
            yield _given_source(_absolute(str(file), path.parent), dataset, str(tree or ""), given)


def _given_source(path: str, dataset: str, tree: str, given: Mapping[str, Any]) -> _Source:
    """A file of a coffea fileset: what the fileset says of it counts more than its name."""
    kind, dsid = given.get("kind", "data"), given.get("dsid", 0)
    if kind not in {"data", "background", "signal"} or not str(dsid).isdecimal():
        msg = (
            f"The metadata of dataset {dataset} has kind {kind!r} and dsid {dsid!r}: a kind is data, background or "
            "signal, a dsid a number."
        )
        raise InputError(msg)
    name = parse(path)
    if name is None:
        if "kind" not in given:
            return _source(path)
        name = FileName(
            given["kind"] == "data", int(given.get("dsid", 0)), dataset, str(given.get("skim", ""))
        )
    name = replace(
        name,
        is_data=given.get("kind", "data" if name.is_data else "") == "data",
        dsid=int(given.get("dsid", name.dsid)),
        skim=str(given.get("skim", name.skim)),
        release=str(given.get("release", name.release)),
    )
    return _Source(path, name, tree, given, dataset)


def _from_list(path: Path) -> Iterator[_Source]:
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    files = [line for line in lines if line and not line.startswith("#")]
    if not files:
        msg = f"{path} lists no file."
        raise InputError(msg)
    for file in files:
        yield _source(_absolute(file, path.parent))


def _absolute(file: str, directory: Path) -> str:
    if "://" in file:
        return file
    path = directory / Path(file).expanduser()
    if not path.is_file():
        msg = f"The file {path} does not exist."
        raise InputError(msg)
    return _local_path(path)


# --- datasets -------------------------------------------------------------------------------------------------


def _keep(sources: Sequence[_Source], settings: FilesetSettings) -> list[_Source]:
    """Apply `groups`, `dsids` and `exclude`; each must match something."""
    groups = {_describe(source)["group"] for source in sources} if settings.groups else set()
    for key in settings.groups:
        if key not in groups:
            hint = did_you_mean(key, sorted(groups), otherwise=f"there are {', '.join(sorted(groups))}.")
            msg = f"Unknown process group {key!r} of {settings.fileset}: {hint}"
            raise InputError(msg)
    numbers = {source.name.dsid for source in sources}
    missing = sorted(set(settings.dsids) - numbers)
    if missing:
        msg = f"{settings.fileset} has no file of dataset number {missing[0]}."
        raise InputError(msg)
    kept = [
        source
        for source in sources
        if (not settings.dsids or source.name.dsid in settings.dsids)
        and source.name.dsid not in settings.exclude
        and (not settings.groups or _describe(source)["group"] in settings.groups)
    ]
    if not kept:
        msg = f"Nothing of {settings.fileset} is left by groups, dsids and exclude."
        raise InputError(msg)
    return kept


def _knowledge(source: _Source) -> Knowledge:
    return known_about(source.path, source.name.release or _DEFAULT_RELEASE)


def _describe(source: _Source) -> dict[str, Any]:
    """Process, group, label, colour and model of a file's sample."""
    name, known = source.name, _knowledge(source)
    catalog = known.first
    if name.is_data:
        group = catalog.groups["data"] if catalog else None
        facts: dict[str, Any] = {
            "kind": "data",
            "process": name.name,
            "group": "data",
            "label": group.label if group else "Data",
            "color": group.color if group else "#000000",
            "model": {},
        }
    elif found := known.sample(name.dsid):
        owner, sample = found
        group = owner.groups[sample.group]
        facts = {
            "kind": sample.kind,
            "process": sample.name,
            "group": group.key,
            "label": group.label,
            "color": group.color,
            "model": dict(sample.model),
        }
    else:
        facts = {"kind": "background", "process": name.name, **_UNKNOWN_GROUP, "model": {}}
    given = source.given or {}
    return facts | {key: given[key] for key in facts if key in given}


def _assemble(
    sources: Sequence[_Source], skims: Mapping[str, tuple[str, ...]], settings: FilesetSettings
) -> Fileset:
    """Datasets of the files of the skims that are read."""
    sources = [source for source in sources if source.name.skim in skims]
    lumi = {skim: _luminosity_of(skim, sources, settings) for skim in skims}
    fileset: Fileset = {}
    for source in sorted(sources, key=lambda source: (source.key, source.path)):
        known, name = _knowledge(source), source.name
        catalog = known.first
        tree = source.tree or (catalog.tree if catalog else "")
        entry = fileset.setdefault(source.key, {"files": {}, "metadata": {}})
        entry["files"][source.path] = tree
        if entry["metadata"]:
            continue
        given = source.given or {}
        metadata = _describe(source) | {
            "dsid": name.dsid,
            "skim": name.skim,
            "release": catalog.release if catalog else _DEFAULT_RELEASE,
            "tree": tree,
            "regions": list(skims[name.skim]),
            "lumi_pb": lumi[name.skim],
            "sample": catalog.sample if catalog else "",
            "doi": catalog.doi(name.skim, data=name.is_data) if catalog else "",
        }
        chosen, _ = normalise(metadata, None, known, file=source.path)
        _refuse_other_normalisation(source.key, given, chosen)
        entry["metadata"] = metadata | chosen | {key: given[key] for key in ("regions",) if key in given}
    return fileset


def _refuse_other_normalisation(dataset: str, given: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    """A fileset that says another cross section or sum of weights than is used must not be read as if it did not."""
    for key in ("xsec_pb", "sumw"):
        stated, used = given.get(key), chosen.get(key)
        if stated is not None and used is not None and not math.isclose(stated, used, rel_tol=1e-6):
            msg = (
                f"The fileset gives dataset {dataset} {key} {stated:g}, {chosen['norm_source']} gives {used:g}: remove "
                "the key, or put a catalog.yaml with your value beside the files."
            )
            raise InputError(msg)


def _luminosity_of(skim: str, sources: Sequence[_Source], settings: FilesetSettings) -> float | None:
    here = [source for source in sources if source.name.skim == skim]
    if not here:
        return None
    stated = {float(lumi) for source in here if (lumi := (source.given or {}).get("lumi_pb"))}
    if len(stated) > 1:
        msg = f"The fileset gives skim {skim} several luminosities, {sorted(stated)}: name one with lumi_pb."
        raise InputError(msg)
    periods = {source.name.name for source in here if source.name.is_data}
    return luminosity(
        _knowledge(here[0]),
        skim,
        periods,
        needed=any(not source.name.is_data for source in here),
        override=settings.lumi_pb or next(iter(stated), None),
    )


def _check_overlaps(fileset: Fileset) -> None:
    """Refuse samples that must not be added, skim by skim."""
    by_skim: dict[tuple[str, str], set[int]] = {}
    for entry in fileset.values():
        metadata = entry["metadata"]
        by_skim.setdefault((metadata["release"], metadata["skim"]), set()).add(metadata["dsid"])
    for (release, _), dsids in by_skim.items():
        if release in RELEASE_CATALOGS:
            load_catalog(RELEASE_CATALOGS[release]).check_overlaps(dsids)

"""What the name of a file of the releases says: simulation or data, dataset number, process, skim."""

import re
from dataclasses import dataclass

__all__ = ["FileName", "parse"]


@dataclass(frozen=True)
class FileName:
    """A file's name, read.

    `dsid` is 0 for data; `name` is the process of a simulated sample (`Zee`) or the data period (`data_A`,
    `data15_periodD`); `release` is empty where the name does not tell.
    """

    is_data: bool
    dsid: int
    name: str
    skim: str
    release: str = ""

    @property
    def dataset(self) -> str:
        """The dataset's key: `361106.Zee.2lep`, `data_A.2lep`."""
        parts = (self.name, self.skim) if self.is_data else (str(self.dsid), self.name, self.skim)
        return ".".join(filter(None, parts))


_PATTERNS = (
    # mc_361106.Zee.2lep.root
    ("2020", False, re.compile(r"mc_(?P<dsid>\d{6,8})\.(?P<name>.+)\.(?P<skim>[^.]+)\.root")),
    # data_A.2lep.root
    ("2020", True, re.compile(r"(?P<name>data_[^.]+)\.(?P<skim>[^.]+)\.root")),
    # ODEO_FEB2025_v0_3lep_mc_700600.Sh_2212_llll.3lep.root
    ("2025", False, re.compile(r"ODEO_.+_mc_(?P<dsid>\d{6,8})\.(?P<name>.+)\.(?P<skim>[^.]+)\.root")),
    # ODEO_FEB2025_v0_3lep_data15_periodD.3lep.root
    ("2025", True, re.compile(r"ODEO_.+?_(?P<name>data\d\d_[^.]+)\.(?P<skim>[^.]+)\.root")),
)
_NUMBERED = re.compile(r"(?:mc_|DSID)?(?P<dsid>\d{6,8})[._](?P<name>.+)\.root")


def parse(path: str) -> FileName | None:
    """Read the name of a file.

    Args:
        path: a path or address; only its last two parts count.

    Returns:
        What the name says; None where it follows no convention and the directory is neither `Data` nor `MC`.
    """
    *folders, filename = path.replace("\\", "/").split("/")
    for release, is_data, pattern in _PATTERNS:
        match = pattern.fullmatch(filename)
        if match:
            dsid = 0 if is_data else int(match["dsid"])
            return FileName(is_data, dsid, match["name"], match["skim"], release)
    match = _NUMBERED.fullmatch(filename)
    if match:
        return FileName(False, int(match["dsid"]), match["name"], "")
    if folders and folders[-1].lower() == "data":
        return FileName(True, 0, filename.removesuffix(".root"), "")
    return None

"""Files are cut short, garbled, gone, empty, without a branch; servers hang: each range is named, and made good."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uproot

from fileset.exceptions import FailureError
from processors.workers import Workers

pytestmark = pytest.mark.xdist_group("faults")

Select = Callable[..., dict[str, Any]]
Range = tuple[int, int]

ZEE, SIGNAL = "361106.Zee.2lep", "392220.C1N2.2lep"
CHUNKSIZE = 60
ALL_OF_ZEE = [(0, 60), (60, 120), (120, 180), (180, 240), (240, 300), (300, 330)]


def cut_short(path: Path, _: Any) -> list[Range]:
    """In the middle of the file: from the fifth basket of 50 on."""
    with uproot.open(path) as file:
        keep = int(file["mini/lep_pt"].member("fBasketSeek")[4])
    path.write_bytes(path.read_bytes()[:keep])
    return [(180, 240), (240, 300), (300, 330)]


def garbled_basket(path: Path, _: Any) -> list[Range]:
    """The compressed bytes of entries 100 to 150 of one branch."""
    with uproot.open(path) as file:
        branch = file["mini"]["lep_eta"]
        seek, size = (int(branch.member(name)[2]) for name in ("fBasketSeek", "fBasketBytes"))
        key = int(branch.basket_key(2).fKeylen)
    content = bytearray(path.read_bytes())
    content[seek + key : seek + size] = bytes(size - key)
    path.write_bytes(content)
    return [(60, 120), (120, 180)]


def gone(path: Path, _: Any) -> list[Range]:
    path.unlink()
    return ALL_OF_ZEE


def no_bytes(path: Path, _: Any) -> list[Range]:
    path.write_bytes(b"")
    return ALL_OF_ZEE


def without_branch(path: Path, write_mini: Any) -> list[Range]:
    write_mini(path, 330, change=lambda branches: branches.pop("met_et"))
    return ALL_OF_ZEE


FAULTS = (cut_short, garbled_basket, gone, no_bytes, without_branch)


@pytest.fixture(scope="module")
def damaged_sample(sample: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny sample, for tests that damage it and mend it again."""
    directory = tmp_path_factory.mktemp("damaged")
    return type(sample)(
        {name: (Path(shutil.copy2(path, directory)), about) for name, (path, about) in sample.files.items()}
    )


@pytest.fixture(scope="module")
def expected_here(damaged_sample: Any, undisturbed: Any) -> dict[str, Any]:
    return undisturbed(damaged_sample.fileset(CHUNKSIZE))


@pytest.mark.parametrize("damage", FAULTS, ids=lambda damage: damage.__name__)
def test_a_broken_file_is_named_by_its_ranges_and_made_good_by_them_alone(
    damaged_sample: Any,
    select: Select,
    expected_here: Any,
    outcome: Any,
    ledger_of: Any,
    write_mini: Any,
    cluster: Workers,
    diary: Any,
    tmp_path: Path,
    damage: Callable[[Path, Any], list[Range]],
) -> None:
    fileset, output, path = damaged_sample.fileset(CHUNKSIZE), tmp_path / "out", damaged_sample.files[ZEE][0]
    whole = shutil.copy2(path, tmp_path / "whole.root")
    lost = damage(path, write_mini)
    try:
        with pytest.raises(FailureError, match=r"mc_361106\.Zee\.2lep\.root, entries .* mend the cause"):
            select(fileset, output, workers=cluster)
    finally:
        shutil.copy2(whole, path)
    assert list(ledger_of(output)) == [(ZEE, str(path), *span) for span in lost]
    assert not any("\n" in cause or not cause for cause in ledger_of(output).values())
    done = diary.done()
    assert len(done) == len(set(done)) == 11 - len(lost)

    result = select(fileset, output, workers=cluster)
    assert outcome(result, output) == expected_here
    again = diary.done()[len(done) :]
    assert sorted(again) == sorted(f"{ZEE}_{start}" for start, _ in lost), "only what was missing"


def test_a_file_without_entries_is_an_empty_sample(
    own_sample: Any,
    select: Select,
    outcome: Any,
    undisturbed: Any,
    write_mini: Any,
    cluster: Workers,
    tmp_path: Path,
) -> None:
    write_mini(own_sample.files[SIGNAL][0], 0, dsid=392220)
    fileset, output = own_sample.fileset(CHUNKSIZE), tmp_path / "out"
    result = select(fileset, output, workers=cluster)
    assert outcome(result, output) == undisturbed(fileset)
    assert result["datasets"][SIGNAL]["events_read"] == result["datasets"][SIGNAL]["selected"] == 0
    assert result["ledger"]["missing"] == []


def test_a_server_that_hangs_is_waited_for_only_so_long(
    own_sample: Any,
    select: Select,
    undisturbed: Any,
    outcome: Any,
    ledger_of: Any,
    deaf_port: tuple[int, Callable[[], None]],
    served: Any,
    cluster: Workers,
    tmp_path: Path,
) -> None:
    port, stop = deaf_port
    fileset, output, path = own_sample.fileset(CHUNKSIZE), tmp_path / "out", own_sample.files[SIGNAL][0]
    address = f"http://127.0.0.1:{port}/{path.name}"
    fileset[SIGNAL]["files"] = {address: fileset[SIGNAL]["files"].pop(str(path))}
    begin = time.monotonic()
    with pytest.raises(FailureError, match=r"no answer within 1 s"):
        select(fileset, output, workers=cluster)
    assert time.monotonic() - begin < 60
    assert list(ledger_of(output)) == [(SIGNAL, address, 0, 60), (SIGNAL, address, 60, 120)]

    stop()
    with served(path.parent, port):
        result = select(fileset, output, workers=cluster)
        assert outcome(result, output) == undisturbed(fileset)

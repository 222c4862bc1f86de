"""Single events are read again from their file: the jets that shards do not hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from fileset.exceptions import FailureError
from processors.original import original_event
from processors.settings import JetSettings

DEMO = Path(__file__).parents[2] / "fileset" / "demo" / "2lep" / "Data" / "data_A.2lep.root"


@pytest.fixture(scope="module")
def events() -> Any:
    """Branches of pseudo-data, as ROOT has them."""
    with uproot.open({DEMO: "mini"}) as tree:
        return tree.arrays(["runNumber", "eventNumber", "channelNumber", "met_et", "met_phi", "jet_pt", "jet_eta",
                            "jet_phi", "jet_jvt", "jet_MV2c10"])  # fmt: skip


def identity_of(event: Any) -> tuple[int, int, int]:
    return int(event.channelNumber), int(event.runNumber), int(event.eventNumber)


def test_jets_are_those_of_the_file(events: Any) -> None:
    many = np.flatnonzero(ak.to_numpy(ak.num(events.jet_pt)) >= 3)
    entry = int(many[len(many) // 2])
    event = events[entry]
    source = {"file": str(DEMO), "start": entry - 5, "stop": entry + 5}
    found = original_event(source, identity_of(event), tree="mini", jets=JetSettings())
    pt, eta = np.array(event.jet_pt) / 1000, np.array(event.jet_eta)
    good = (pt > 20) & ~((pt < 60) & (np.abs(eta) < 2.4) & (np.array(event.jet_jvt) < 0.59))
    order = np.argsort(-pt[good], kind="stable")
    np.testing.assert_allclose(found.jets["pt"], pt[good][order], rtol=1e-6)
    np.testing.assert_allclose(found.jets["eta"], eta[good][order])
    np.testing.assert_allclose(found.jets["phi"], np.array(event.jet_phi)[good][order])
    # MV2c10 at the 77 % point.
    np.testing.assert_array_equal(found.is_b, (np.array(event.jet_MV2c10) > 0.645925)[good][order])
    assert found.met_pt == pytest.approx(event.met_et / 1000, rel=1e-6)
    assert found.met_phi == pytest.approx(event.met_phi)


def test_a_jet_that_the_region_does_not_count_is_no_jet(events: Any) -> None:
    entry = int(np.argmax(ak.to_numpy(ak.num(events.jet_pt))))
    source = {"file": str(DEMO), "start": 0, "stop": len(events)}
    identity = identity_of(events[entry])
    loose, tight = (
        original_event(source, identity, tree="mini", jets=JetSettings(pt_min=minimum))
        for minimum in (20.0, 60.0)
    )
    assert len(tight.jets["pt"]) == (loose.jets["pt"] > 60).sum()
    assert 0 < len(tight.jets["pt"]) < len(loose.jets["pt"])


@pytest.mark.parametrize(
    ("changed", "identity"),
    [
        ({"file": "no-such-file.root"}, None),
        ({}, (299000, 299000, 4_000_000_000)),
        ({"start": 0, "stop": 1}, None),
    ],
)
def test_what_cannot_be_read_again_is_said(
    events: Any, changed: dict[str, Any], identity: tuple[int, int, int] | None
) -> None:
    source = {"file": str(DEMO), "start": 0, "stop": len(events)} | changed
    with pytest.raises(FailureError, match="cannot be read again"):
        original_event(source, identity or identity_of(events[100]), tree="mini", jets=JetSettings())


def test_a_number_above_two_to_the_thirty_one_is_found_though_the_release_wraps_it(
    tmp_path: Path, write_mini: Callable[..., Path]
) -> None:
    numbers = np.arange(2**31, 2**31 + 40, dtype=np.int64)

    def wrap(branches: dict[str, Any]) -> None:
        branches["eventNumber"] = numbers.astype(np.uint32).view(np.int32)

    path = write_mini(tmp_path / "mc.root", 40, change=wrap)
    with uproot.open({path: "mini"}) as tree:
        met = tree["met_et"].array(library="np")
    source = {"file": str(path), "start": 10, "stop": 40}
    found = original_event(source, (361106, 284500, int(numbers[25])), tree="mini", jets=JetSettings())
    assert found.met_pt == pytest.approx(met[25] / 1000)


@pytest.mark.shared
def test_the_release_of_2025_is_read_alike(real_2025: Path) -> None:
    with uproot.open({real_2025: "analysis"}) as tree:
        names = ["channelNumber", "runNumber", "eventNumber", "met", "jet_pt", "jet_jvt"]
        event = tree.arrays(names, entry_stop=30)[20]
    source = {"file": str(real_2025), "start": 0, "stop": 30}
    found = original_event(source, identity_of(event), tree="analysis", jets=JetSettings())
    assert found.met_pt == pytest.approx(event.met)
    pt = np.array(event.jet_pt)[(np.array(event.jet_pt) > 20) & np.array(event.jet_jvt)]
    np.testing.assert_allclose(found.jets["pt"], np.sort(pt)[::-1])

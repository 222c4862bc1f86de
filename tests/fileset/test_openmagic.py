"""Releases without a catalogue come from a web service, or one sentence says why not."""

import sys
import types

import pytest

from fileset.exceptions import FailureError, InputError
from fileset.resolve import resolve
from fileset.settings import FilesetSettings


class Service(types.ModuleType):
    """Stands in for the package: the release has one sample and its data, in one skim."""

    def __init__(self):
        super().__init__("atlasopenmagic")
        self.offline = False

    def set_release(self, release):
        if self.offline:
            raise ConnectionError
        if release != "2025e-13tev-beta":
            message = f"Invalid release '{release}'. Use one of: 2025e-13tev-beta"
            raise ValueError(message)

    def available_datasets(self):
        return ["700600", "data"]

    def get_urls(self, key, skim, protocol, cache):
        assert cache is False, "remote files must not be copied to the local disk"
        if skim != "exactly4lep":
            message = f"Skim '{skim}' not found for dataset '{key}'. Available skims: exactly4lep"
            raise ValueError(message)
        name = "data15_periodD" if key == "data" else f"mc_{key}.Sh_2212_llll"
        return [f"{protocol}://host//ODEO_FEB2025_v0_{skim}_{name}.{skim}.root"]


@pytest.fixture
def service(monkeypatch):
    module = Service()
    monkeypatch.setitem(sys.modules, "atlasopenmagic", module)
    return module


def ask(release="2025e-13tev-beta", **settings):
    settings = {"skim": "exactly4lep", "lumi_pb": 36100} | settings
    return resolve(FilesetSettings(fileset=f"atlasopenmagic:{release}", **settings), ["2L", "3L"])


def test_files_of_a_release_become_datasets(service):
    fileset = ask()
    assert list(fileset) == ["700600.Sh_2212_llll.exactly4lep", "data15_periodD.exactly4lep"]
    assert fileset["700600.Sh_2212_llll.exactly4lep"]["metadata"]["group"] == "diboson"


def test_one_sample_can_be_asked_for(service):
    assert list(ask(dsids=[700600], protocol="https")) == ["700600.Sh_2212_llll.exactly4lep"]


def test_an_unknown_release_or_skim_is_said(service):
    with pytest.raises(InputError, match="Invalid release '1999'"):
        ask("1999")
    with pytest.raises(InputError, match="Skim 'noskim' not found"):
        ask(skim=None)


def test_offline_is_one_sentence(service):
    service.offline = True
    with pytest.raises(FailureError, match=r"cannot be reached \(ConnectionError\)") as caught:
        ask()
    assert "\n" not in str(caught.value)


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "atlasopenmagic", None)
    with pytest.raises(InputError, match="needs the package atlasopenmagic"):
        ask()

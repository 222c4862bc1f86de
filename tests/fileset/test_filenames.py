"""Names of files, as the releases write them."""

import pytest

from fileset.catalog import load_catalog
from fileset.filenames import FileName, parse


@pytest.mark.parametrize(
    ("path", "expected", "dataset"),
    [
        (
            "/d/2lep/MC/mc_361106.Zee.2lep.root",
            FileName(False, 361106, "Zee", "2lep", "2020"),
            "361106.Zee.2lep",
        ),
        ("data_A.4lep.root", FileName(True, 0, "data_A", "4lep", "2020"), "data_A.4lep"),
        (
            "root://h//e/ODEO_FEB2025_v0_exactly4lep_data15_periodD.exactly4lep.root",
            FileName(True, 0, "data15_periodD", "exactly4lep", "2025"),
            "data15_periodD.exactly4lep",
        ),
        (
            "https://h/ODEO_FEB2025_v0_2to4lep_mc_301204.Py8_Zprime_ee_SSM3000.2to4lep.root",
            FileName(False, 301204, "Py8_Zprime_ee_SSM3000", "2to4lep", "2025"),
            "301204.Py8_Zprime_ee_SSM3000.2to4lep",
        ),
        # A process' name may hold dots and figures.
        (
            "mc_392226.C1N2_WZ_100p0_0p0_3L_2L7.3lep.root",
            FileName(False, 392226, "C1N2_WZ_100p0_0p0_3L_2L7", "3lep", "2020"),
            "392226.C1N2_WZ_100p0_0p0_3L_2L7.3lep",
        ),
        ("x/Data/muons.root", FileName(True, 0, "muons", "", ""), "muons"),
        ("mc_900001.mine.root", FileName(False, 900001, "mine", "", ""), "900001.mine"),
    ],
)
def test_a_name_tells_sample_and_skim(path, expected, dataset):
    assert parse(path) == expected
    assert parse(path).dataset == dataset


@pytest.mark.parametrize("path", ["histograms.root", "MC/whatever.root", "mc_12.Zee.2lep.root"])
def test_other_names_tell_nothing(path):
    assert parse(path) is None


@pytest.mark.parametrize("release", ["atlas-2020", "atlas-2025"])
def test_every_name_of_the_catalogues_is_read(release):
    catalog = load_catalog(release)
    for skim, files in catalog.files.items():
        for file in files:
            name = parse(file.path)
            assert name == FileName(file.dsid == 0, file.dsid, file.name, skim, catalog.release)

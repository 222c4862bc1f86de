"""A checked fileset is in the form of coffea's tools, and its steps cover every entry once."""

import pytest
from coffea.dataset_tools import slice_files

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings


@pytest.fixture
def audited(skim):
    return check(resolve(FilesetSettings(fileset=str(skim)), ["2L"]))


def test_the_preprocessed_form_is_coffeas(audited):
    sliced = slice_files(audited.fileset, slice(1))
    assert set(sliced) == set(audited.fileset)


def test_steps_cover_all_entries_once(audited):
    stepped = with_steps(audited.fileset, 7)
    for dataset, entry in stepped.items():
        for path, spec in entry["files"].items():
            assert spec["steps"] == [[0, 7], [7, 14], [14, 20]], (dataset, path)


def test_steps_end_at_clusters(audited):
    path = next(iter(audited.fileset["361106.Zee.2lep"]["files"]))
    clusters = audited.clusters | {path: [0, 3, 9, 12, 20]}
    stepped = with_steps(audited.fileset, 5, clusters)
    assert stepped["361106.Zee.2lep"]["files"][path]["steps"] == [[0, 9], [9, 20]]


@pytest.mark.parametrize("clusters", [[0, 1000], [0, 40, 1000], list(range(0, 1001, 50))])
def test_steps_cover_a_file_once_and_none_is_much_longer_than_asked(clusters):
    fileset = {
        "d": {"files": {"f": {"object_path": "mini", "num_entries": 1000, "uuid": ""}}, "metadata": {}}
    }
    steps = with_steps(fileset, 100, {"f": clusters})["d"]["files"]["f"]["steps"]
    assert [start for start, _ in steps] == [0, *(stop for _, stop in steps[:-1])]
    assert steps[-1][1] == 1000
    assert max(stop - start for start, stop in steps) <= 2 * 100

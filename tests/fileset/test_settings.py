"""The settings of the fileset stage."""

import pytest
from pydantic import ValidationError

from fileset.settings import FilesetSettings


def test_dataset_numbers_may_be_ranges():
    settings = FilesetSettings(dsids=["364100-364102", 7], exclude="5")
    assert settings.dsids == (7, 364100, 364101, 364102)
    assert settings.exclude == (5,)


@pytest.mark.parametrize(
    "wrong", [{"dsids": ["Zee"]}, {"lumi_pb": 0}, {"protocol": "ftp"}, {"skims": "2lep"}]
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValidationError):
        FilesetSettings(**wrong)

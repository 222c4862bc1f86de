"""Files are whole or absent, and configurations are told apart by their fingerprints."""

from pathlib import Path

import pytest

from processors.files import fingerprint, read_json, replace_atomically, write_json


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"

    def half() -> None:
        with replace_atomically(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            message = "killed"
            raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="killed"):
        half()
    assert list(path.parent.iterdir()) == []
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}


def test_fingerprints_tell_configurations_apart_but_not_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})

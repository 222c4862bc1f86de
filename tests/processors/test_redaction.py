"""Passwords and tokens of addresses are nobody else's affair."""

import pytest

from processors.redaction import redacted, redacted_text


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("no tcp://bob:s3cret@127.0.0.1:9 there", "no tcp://127.0.0.1:9 there"),
        ("no address 'bob:s3cret@127.0.0.1:9'", "no address '127.0.0.1:9'"),
        ("tcp://bob:p@ss@host:9", "tcp://host:9"),
        ("http://physicist:secret@server:80/x", "http://server:80/x"),
        ("root://host//a/b.root?authz=Bearer%20abc&x=1 failed", "root://host//a/b.root?authz=***&x=1 failed"),
        ("https://host/f.root?a=1&token=abc", "https://host/f.root?a=1&token=***"),
        ("root://host:1094//data/a@b.root", "root://host:1094//data/a@b.root"),
        ("https://zenodo.org/record/1?download=1", "https://zenodo.org/record/1?download=1"),
    ],
)
def test_an_address_is_told_without_its_secrets(text: str, public: str) -> None:
    assert redacted_text(text) == public


def test_whatever_else_there_is_stays() -> None:
    content = {"seed": 5, "where": ["tcp://a:b@h:1", None, 0.5], "deep": {"x": ("y://u@h",)}}
    assert redacted(content) == {"seed": 5, "where": ["tcp://h:1", None, 0.5], "deep": {"x": ["y://h"]}}

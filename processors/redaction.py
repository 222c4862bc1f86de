"""What addresses carry to show who one is stays out of messages and of run.json."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["redacted", "redacted_text"]

# What stands before the @ of an address, and the values of a query that are as good as a password: tokens of XRootD
# and WLCG (authz, access_token) and what comes under these names elsewhere.
_WHO = re.compile(r"(://)[^/\s]*@|(?<![\w/])[^\s/:@'\"(]+:[^\s/:@'\"]+@(?=[\w\[])")
_QUERY = re.compile(r"([?&](?:authz|token|access_token|password|secret)=)[^&\s'\"),]*", re.IGNORECASE)


def redacted_text(text: str) -> str:
    """A text without what its addresses carry of users, passwords and tokens."""
    return _QUERY.sub(r"\1***", _WHO.sub(lambda found: found[1] or "", text))


def redacted(content: Any) -> Any:
    """Content as JSON has it, with each text in it redacted."""
    if isinstance(content, str):
        return redacted_text(content)
    if isinstance(content, Mapping):
        return {redacted(key): redacted(value) for key, value in content.items()}
    if isinstance(content, Sequence):
        return [redacted(value) for value in content]
    return content

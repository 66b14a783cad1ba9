"""The web page as one document, put together from its parts in ``page/``.

``page.html`` names a style sheet and scripts as any page does. They are written into it, so that
one answer is the whole page, of one version, and the browser is told the digest of each: nothing
else may run.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_POLICY: Final = (
    "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)

_PART: Final = re.compile(
    rb'<(?:link rel="stylesheet" href|script src)="([a-z0-9.-]+)">(?:</script>)?'
)


def put_together(parts: Traversable) -> tuple[bytes, str]:
    """The document, and the Content-Security-Policy it is served with.

    Raises:
        FileNotFoundError: it names a part that is not there.
    """
    digests: dict[str, list[str]] = {"script": [], "style": []}

    def written_in(found: re.Match[bytes]) -> bytes:
        name = found[1].decode()
        element = "style" if name.endswith(".css") else "script"
        text = b"\n" + (parts / name).read_bytes()
        digests[element].append(_digest(text))
        return b"<%b>%b</%b>" % (element.encode(), text, element.encode())

    body = _PART.sub(written_in, (parts / "page.html").read_bytes())
    policy = _POLICY.format(**{element: " ".join(those) for element, those in digests.items()})
    return body, policy


def _digest(text: bytes) -> str:
    """What a policy calls an element with this text (W3C CSP3, 2.3.1)."""
    return f"'sha256-{b64encode(sha256(text).digest()).decode()}'"

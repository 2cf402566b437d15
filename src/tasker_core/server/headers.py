"""What every reply tells the browser that may have asked.

The API is no page: nothing of it may be run, framed, cached or taken for something else.
Pages may use what the server itself sends, and nothing from elsewhere; the page of the
documentation loads its program from where FastAPI takes it.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders

_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_PAGE = (
    "default-src 'self'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_DOCS = (
    "default-src 'none'; connect-src 'self'; font-src https://cdn.jsdelivr.net; "
    "script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "img-src 'self' data: https://fastapi.tiangolo.com; base-uri 'none'; frame-ancestors 'none'"
)


def protect(headers: MutableHeaders, path: str) -> None:
    """Add to a reply's headers; what a route has said itself stays."""
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("X-Frame-Options", "DENY")
    headers.setdefault("Referrer-Policy", "no-referrer")
    content_type = headers.get("Content-Type", "")
    policy = _NOTHING
    if content_type.startswith("text/html"):
        policy = _DOCS if path.endswith("/api-docs/ui") else _PAGE
    headers.setdefault("Content-Security-Policy", policy)
    if "json" in content_type:
        headers.setdefault("Cache-Control", "no-store")

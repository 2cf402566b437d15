"""Whether a form was sent from a page of ours.

A browser sends cookies, and what an application asks for, with whatever page makes it; so
what changes anything must say that it comes from here. Credentials in a header are no
browser's doing, and prove it themselves.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from tasker_core.server.auth import caller_of, forbidden

_SAFE = ("GET", "HEAD", "OPTIONS")


def check_origin(request: Request) -> None:
    """Refuse a form of another site.

    Raises:
        Refusal: 403.
    """
    if request.method in _SAFE or _shows_credential(request):
        return
    told = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin", "")
    is_ours = (
        urlsplit(origin).netloc == request.headers.get("Host")
        if told is None
        else (told == "same-origin")
    )
    if not is_ours:
        raise forbidden(
            "this did not come from a page of this dashboard; open the page and send it"
        )


def _shows_credential(request: Request) -> bool:
    is_asked = caller_of(request).method in ("api_key", "jwt")
    return is_asked and not getattr(request.state, "from_cookie", False)

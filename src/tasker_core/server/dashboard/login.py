"""/login and /logout: a credential in a cookie, which no program of a page can read.

The cookie counts for the pages alone, see door.py; the API wants headers as ever.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tasker_core.server.backend import backend_of
from tasker_core.server.dashboard.act import read_form
from tasker_core.server.dashboard.pages import base_of, page
from tasker_core.server.dashboard.pages import router as new_router
from tasker_core.server.problems import Refusal

router = new_router()

COOKIE = "tasker_dashboard"
LONGEST = 3800  # what browsers keep has 4,096 bytes, with its name


@router.get("/login")
async def ask(request: Request, next: str = "") -> Response:
    """Ask for a key or a token."""
    if not backend_of(request).settings.asks_who_calls:
        return RedirectResponse(f"{base_of(request)}/", 303)
    return page(request, "login.html", next=local(next), problem=None)


@router.post("/login")
async def enter(request: Request) -> Response:
    """Look at the credential, and remember it in a cookie."""
    form = await read_form(request)
    shown, target = form.get("credential", "").strip(), local(form.get("next", ""))
    try:
        if len(shown) > LONGEST:
            raise Refusal(401, "AUTHENTICATION_FAILED", f"it has more than {LONGEST:,} characters")
        await request.state.recognize(request, *parts(shown))
    except Refusal as refusal:
        if refusal.status not in (401, 429):
            raise
        reply = page(request, "login.html", refusal.status, next=target, problem=refusal.detail)
        if refusal.retry_after is not None:
            reply.headers["Retry-After"] = str(refusal.retry_after)
        return reply
    base = base_of(request)
    entered = RedirectResponse(target or f"{base}/", 303)
    entered.set_cookie(
        COOKIE,
        shown,
        path=f"{base}/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return entered


@router.post("/logout")
async def leave(request: Request) -> Response:
    """Forget the cookie."""
    base = base_of(request)
    left = RedirectResponse(f"{base}/login", 303)
    forget(left, base)
    return left


def forget(reply: Response, base: str) -> None:
    """Take the cookie away."""
    reply.delete_cookie(COOKIE, path=f"{base}/", httponly=True, samesite="strict")


def parts(shown: str) -> tuple[str | None, str | None]:
    """Tell a token, which has three parts, from a key.

    >>> parts("a.b.c"), parts("tk_1_2")
    (('a.b.c', None), (None, 'tk_1_2'))
    """
    return (shown, None) if shown.count(".") == 2 else (None, shown)


def local(path: str) -> str:
    """Give a path of this server; nothing if it leads elsewhere.

    >>> local("/tasks?q=a"), local("//evil.example"), local("https://evil.example")
    ('/tasks?q=a', '', '')
    """
    is_path = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if is_path and path.isprintable() and "\\" not in path else ""


def credential_of(cookies: Mapping[str, str]) -> tuple[bytes, bytes] | None:
    """Give the header that says what a cookie says; None: there is none."""
    shown = cookies.get(COOKIE)
    if not shown or not shown.isascii():
        return None
    token, key = parts(shown)
    if token is not None:
        return b"authorization", f"Bearer {token}".encode()
    return b"x-api-key", (key or "").encode()

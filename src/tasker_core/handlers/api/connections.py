"""Connections to HTTP APIs, shared by all handlers of the process.

A handler lives for one attempt, a connection should live longer: a new one costs
two to three round trips, and a new pool tens of milliseconds. So each handler has
a light client of its own (base address, headers, cookies), and all clients send
through the same pools. Cookies stay with their client: what one attempt was given,
the next one does not send.

Proxies and certificates are taken from the environment, as httpx does it, when the
pools are first used.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Generic, TypeVar
from urllib.request import getproxies
from weakref import WeakKeyDictionary

import httpx

# As many connections as there are handlers at work; the idle ones are kept for a while.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)


def new_client(base_url: str, timeout: float | None, headers: Mapping[str, str]) -> httpx.Client:
    """Make a light client over the shared connections; closing it closes none of them."""
    pools = _thread_pools()
    return httpx.Client(
        base_url=base_url,
        timeout=timeout,
        headers=headers,
        transport=pools.direct,
        mounts=pools.by_scheme,
        trust_env=False,  # the pools have read it
    )


def new_async_client(
    base_url: str, timeout: float | None, headers: Mapping[str, str]
) -> httpx.AsyncClient:
    """Make a light async client over the running loop's connections."""
    pools = _loop_pools()
    return httpx.AsyncClient(
        base_url=base_url,
        timeout=timeout,
        headers=headers,
        transport=pools.direct,
        mounts=pools.by_scheme,
        trust_env=False,
    )


def close_connections() -> None:
    """Close the connections of handlers in threads; the next request opens new ones."""
    global _of_threads
    with _lock:
        pools, _of_threads = _of_threads, None
    for pool in pools.all() if pools else ():
        pool.inner.close()


async def aclose_connections() -> None:
    """Close the running loop's connections; a loop should do this before it ends."""
    with _lock:
        pools = _of_loops.pop(asyncio.get_running_loop(), None)
    for pool in pools.all() if pools else ():
        await pool.inner.aclose()


# --- the pools ------------------------------------------------------------------------


class _Pool(httpx.BaseTransport):
    """Connections that stay open when a client over them is closed."""

    def __init__(self, proxy: str | None) -> None:
        self.inner = httpx.HTTPTransport(limits=_LIMITS, proxy=proxy)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.inner.handle_request(request)


class _AsyncPool(httpx.AsyncBaseTransport):
    """The same for one event loop."""

    def __init__(self, proxy: str | None) -> None:
        self.inner = httpx.AsyncHTTPTransport(limits=_LIMITS, proxy=proxy)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.inner.handle_async_request(request)


_P = TypeVar("_P", _Pool, _AsyncPool)


@dataclass(frozen=True)
class _Pools(Generic[_P]):
    direct: _P
    by_scheme: dict[str, _P | None]  # addresses that go through a proxy; None: these do not

    def all(self) -> Iterator[_P]:
        yield self.direct
        yield from (pool for pool in self.by_scheme.values() if pool is not None)


_lock = threading.Lock()
_of_threads: _Pools[_Pool] | None = None
_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pools[_AsyncPool]] = WeakKeyDictionary()


def _thread_pools() -> _Pools[_Pool]:
    global _of_threads
    with _lock:
        if _of_threads is None:
            _of_threads = _open(_Pool)
        return _of_threads


def _loop_pools() -> _Pools[_AsyncPool]:
    loop = asyncio.get_running_loop()
    with _lock:
        pools = _of_loops.get(loop)
        if pools is None:
            pools = _of_loops[loop] = _open(_AsyncPool)
        return pools


def _open(kind: type[_P]) -> _Pools[_P]:
    proxies = _proxies()
    return _Pools(
        kind(None), {scheme: kind(proxy) if proxy else None for scheme, proxy in proxies.items()}
    )


def _proxies() -> dict[str, str | None]:
    """Read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY as patterns of addresses."""
    found = getproxies()
    exempt = [host.strip() for host in found.get("no", "").split(",") if host.strip()]
    if "*" in exempt:
        return {}
    patterns: dict[str, str | None] = {}
    for scheme in ("http", "https", "all"):
        proxy = found.get(scheme)
        if proxy:
            patterns[f"{scheme}://"] = proxy if "://" in proxy else f"http://{proxy}"
    if patterns:
        patterns.update((_pattern(host), None) for host in exempt)
    return patterns


def _pattern(host: str) -> str:
    if "://" in host:
        return host
    try:
        version = ip_address(host.split("/")[0]).version
    except ValueError:
        return f"all://{host}" if host.lower() == "localhost" else f"all://*{host}"
    return f"all://[{host}]" if version == 6 else f"all://{host}"


def _forget() -> None:
    """Forget everything in a forked child: the sockets are the parent's."""
    global _lock, _of_threads, _of_loops
    _lock, _of_threads, _of_loops = threading.Lock(), None, WeakKeyDictionary()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

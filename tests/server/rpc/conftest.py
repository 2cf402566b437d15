"""A server with gRPC on the test's database, on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.credentials import public_pem
from support.rpc import RpcClient
from tasker_core.server.app import create_app
from tasker_core.server.run import Server
from tasker_core.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The server's, with gRPC and all that goes with it."""
    more = {"grpc_port": 0, "grpc_reflection": True, "config_endpoint": True}
    return settings.model_copy(update=more)


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    """A server that asks nobody."""
    async with Server(create_app(settings), port=0) as server:
        yield server


@pytest.fixture
async def rpc(server: Server) -> AsyncIterator[RpcClient]:
    """Calls it."""
    assert server.rpc is not None
    async with RpcClient(server.rpc.address) as client:
        yield client


@pytest.fixture
async def guarded_rpc(settings: Settings) -> AsyncIterator[RpcClient]:
    """Calls a server that asks who calls: it takes API keys, and tokens of ours."""
    asking = settings.model_copy(update={"auth": True, "jwt_public_key": public_pem()})
    async with Server(create_app(asking), port=0) as server:
        assert server.rpc is not None
        async with RpcClient(server.rpc.address) as client:
            yield client

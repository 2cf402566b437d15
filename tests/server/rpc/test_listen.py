"""Where gRPC listens, with which certificate, and what it tells of itself."""

from __future__ import annotations

import asyncio
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from support.rpc import RpcClient, refusal
from tasker_core.errors import GrpcUnavailable, InvalidSettings, UnprotectedServer
from tasker_core.server.app import create_app
from tasker_core.server.rpc import messages, standing
from tasker_core.server.run import AddressUnavailable, Server
from tasker_core.settings import Settings

Pair = tuple[Path, Path]


def certificate(folder: Path, name: str) -> Pair:
    """Make a certificate for localhost that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, secret


@pytest.fixture
def ours(tmp_path: Path) -> Pair:
    """The server's certificate and key."""
    return certificate(tmp_path, "ours")


def with_tls(settings: Settings, pair: Pair, **more: Any) -> Settings:
    pem, key = pair
    return settings.model_copy(update={"grpc_tls_certificate": pem, "grpc_tls_key": key, **more})


def credentials(root: Path, pair: Pair | None = None) -> grpc.ChannelCredentials:
    pem, key = pair if pair is not None else (None, None)
    return grpc.ssl_channel_credentials(
        root.read_bytes(),
        None if key is None else key.read_bytes(),
        None if pem is None else pem.read_bytes(),
    )


async def health_of(server: Server, secret: grpc.ChannelCredentials | None) -> dict[str, Any]:
    assert server.rpc is not None
    named = f"localhost:{server.rpc.port}"
    async with RpcClient(named, secret) as client:
        return await client.call("HealthService/CheckHealth")


async def test_tls_is_tls(settings: Settings, ours: Pair, tmp_path: Path) -> None:
    """Who trusts the certificate gets through, who trusts another one or speaks plainly not."""
    other, _ = certificate(tmp_path, "other")
    async with Server(create_app(with_tls(settings, ours)), port=0) as server:
        reply = await health_of(server, credentials(ours[0]))
        plain = await refusal(health_of(server, None))
        doubting = await refusal(health_of(server, credentials(other)))

    assert reply["status"] == "healthy"
    assert plain.code() is StatusCode.UNAVAILABLE
    assert doubting.code() is StatusCode.UNAVAILABLE


async def test_clients_show_a_certificate_where_it_is_asked_for(
    settings: Settings, ours: Pair, tmp_path: Path
) -> None:
    """One of the authority that is named, and no other."""
    theirs, others = certificate(tmp_path, "theirs"), certificate(tmp_path, "others")
    asking = with_tls(settings, ours, grpc_tls_client_ca=theirs[0])
    async with Server(create_app(asking), port=0) as server:
        reply = await health_of(server, credentials(ours[0], theirs))
        none = await refusal(health_of(server, credentials(ours[0])))
        wrong = await refusal(health_of(server, credentials(ours[0], others)))

    assert reply["status"] == "healthy"
    assert {none.code(), wrong.code()} == {StatusCode.UNAVAILABLE}


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"grpc_tls_key": None}, "grpc_tls_key is not set"),
        ({"grpc_tls_certificate": None}, "grpc_tls_certificate is not set"),
        ({"grpc_tls_key": Path("gone.key")}, "grpc_tls_key is gone.key, which cannot be read"),
        ({"grpc_tls_key": "other"}, "must be a certificate in PEM and its key"),
        ({"grpc_tls_certificate": "text"}, "must be a certificate in PEM and its key"),
        ({"grpc_tls_client_ca": "text"}, "grpc_tls_client_ca is .*, but must be certificates"),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_refused_at_start(
    settings: Settings, ours: Pair, tmp_path: Path, update: dict[str, Any], said: str
) -> None:
    """Never a server in plain text that was to have TLS."""
    (tmp_path / "text").write_text("no certificate")
    named = {"other": certificate(tmp_path, "other")[1], "text": tmp_path / "text"}
    more = {name: named.get(value, value) for name, value in update.items()}

    with pytest.raises(InvalidSettings, match=said):
        await Server(create_app(with_tls(settings, ours, **more)), port=0).start()


async def test_an_address_must_be_free_and_protected(settings: Settings) -> None:
    """As for HTTP; whatever was begun is undone."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for_port = settings.model_copy(update={"grpc_port": port})
        with pytest.raises(AddressUnavailable, match="TASKER_GRPC_PORT"):
            await Server(create_app(for_port), port=0).start()
    everywhere = settings.model_copy(update={"grpc_host": "0.0.0.0"})
    server = Server(create_app(everywhere), port=0)
    with pytest.raises(UnprotectedServer, match="TASKER_AUTH=true"):
        await server.start()
    assert server.app.state.backend.pool is None
    asking = everywhere.model_copy(update={"auth": True})
    with capture_logs() as logged:
        async with Server(create_app(asking), port=0):
            pass
    assert ("grpc_without_tls", "warning") in [(one["event"], one["log_level"]) for one in logged]


async def test_without_the_extra_it_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without the setting nothing of it is imported."""
    monkeypatch.delitem(sys.modules, "tasker_core.server.rpc.listen", raising=False)
    monkeypatch.setitem(sys.modules, "grpc_reflection.v1alpha", None)

    with pytest.raises(GrpcUnavailable, match=r"pip install 'tasker-py\[grpc\]'"):
        await Server(create_app(settings), port=0).start()
    off = settings.model_copy(update={"grpc_port": None})
    async with Server(create_app(off), port=0) as server:
        assert server.rpc is None


async def test_the_services_can_be_asked_for(server: Server, rpc: RpcClient) -> None:
    """Reflection lists them, with the methods of each; a standard probe is answered."""
    stub = reflection_pb2_grpc.ServerReflectionStub(rpc.channel)
    wanted = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="tasker.v1.TaskService"),
    ]
    replies = [one async for one in stub.ServerReflectionInfo(iter(wanted))]
    probe = health_pb2_grpc.HealthStub(rpc.channel)
    standing = await probe.Check(health_pb2.HealthCheckRequest())
    unknown = await refusal(probe.Check(health_pb2.HealthCheckRequest(service="none")))

    names = {one.name for one in replies[0].list_services_response.service}
    assert names == {
        *(service.full_name for service in messages.services()),
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert replies[1].file_descriptor_response.file_descriptor_proto
    assert standing.status == health_pb2.HealthCheckResponse.SERVING
    assert unknown.code() is StatusCode.NOT_FOUND


async def test_who_watches_hears_that_the_server_stops(server: Server, rpc: RpcClient) -> None:
    """And more than a number do not watch: anybody may."""
    probe = health_pb2_grpc.HealthStub(rpc.channel)
    asked = health_pb2.HealthCheckRequest(service="tasker.v1.TaskService")
    watch = probe.Watch(asked)
    first = await watch.read()
    assert server.rpc is not None
    assert server.rpc._standing is not None
    server.rpc._standing._watchers = standing.MOST_WATCHERS
    refused = await refusal(probe.Watch(asked).read())
    stopping = asyncio.create_task(server.stop())
    second = await watch.read()
    watch.cancel()
    await stopping

    assert first.status == health_pb2.HealthCheckResponse.SERVING
    assert second.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert refused.code() is StatusCode.RESOURCE_EXHAUSTED


async def test_what_is_switched_off_is_not_there(settings: Settings) -> None:
    """Neither tells anything then."""
    off = settings.model_copy(update={"grpc_reflection": False, "grpc_health": False})
    async with Server(create_app(off), port=0) as server:
        assert server.rpc is not None
        async with RpcClient(server.rpc.address) as rpc:
            probe = health_pb2_grpc.HealthStub(rpc.channel)
            no_probe = await refusal(probe.Check(health_pb2.HealthCheckRequest()))
            stub = reflection_pb2_grpc.ServerReflectionStub(rpc.channel)
            asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
            with pytest.raises(grpc.aio.AioRpcError) as no_list:
                async for _ in stub.ServerReflectionInfo(iter(asked)):
                    pass

    assert no_probe.code() is StatusCode.UNIMPLEMENTED
    assert no_list.value.code() is StatusCode.UNIMPLEMENTED

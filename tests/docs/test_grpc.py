"""The guide to gRPC does what it says, and its reference has every call."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.flows import ONE, Worker, template
from support.workers import eventually
from tasker_core.engine.register import register_template
from tasker_core.server.app import create_app
from tasker_core.server.permissions import ROUTES
from tasker_core.server.rpc import PROTOS, messages
from tasker_core.server.run import Server
from tasker_core.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"


async def test_the_client_of_the_guide_works(
    conn: Any, clean_database: str, tmp_path: Path
) -> None:
    """Made by the command that stands there; it sees its task run to the end."""
    text = (DOCS / "guides/use-grpc.md").read_text(encoding="utf-8")
    (tool,) = re.findall(r"^python (-m grpc_tools.*)$", text, re.MULTILINE)
    code = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[0]
    files = [str(file) for file in sorted(PROTOS.glob("tasker/v1/*.proto"))]
    words = tool.replace('"$PROTOS"/tasker/v1/*.proto', "").replace('"$PROTOS"', str(PROTOS))
    command = [sys.executable, *words.split(), *files]
    await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, check=True)
    await register_template(conn, template(ONE))
    worker = Worker(conn)

    settings = Settings(database_url=clean_database, sweep_seconds=3600, grpc_port=0)
    async with Server(create_app(settings), port=0) as server:
        assert server.rpc is not None
        (tmp_path / "client.py").write_text(code.replace("127.0.0.1:9190", server.rpc.address))
        client = await asyncio.create_subprocess_exec(
            sys.executable, "client.py", cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        await worker.succeed(*await eventually(worker.claim))
        output, _ = await client.communicate()

    assert client.returncode == 0
    assert output.decode().split()[0] == "task.snapshot"


def test_the_reference_has_every_call_with_its_permission() -> None:
    """In the order of the services; the permission is that of the route."""
    text = (DOCS / "reference/grpc.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+Service/\w+)` \| `(.+?)` \| `?(.+?)`? \|$", text, re.MULTILINE)

    assert sorted(name for name, *_ in rows) == sorted(
        f"{service.name}/{method.name}"
        for service in messages.services()
        for method in service.methods
    )
    for name, route, permission in rows:
        assert (" or ".join(ROUTES.get(route, ())) or "public") == permission, name

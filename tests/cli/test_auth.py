"""`tasker-ctl auth`, and the whole way: keys and tokens made here, shown to a server that asks."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

from cli.running import LongRunning
from tasker_core.client import TaskerClient, TaskerClientError

Ctl = Callable[..., Result]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one_line(result: Result) -> str:
    """Give what was asked for: one word, in one piece."""
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return result.stdout.strip()


# --- key pairs and tokens ---------------------------------------------------------------------


def test_a_key_pair_is_made_and_not_replaced(ctl: Ctl, here: Path) -> None:
    """Only its owner reads the private one; --force replaces both."""
    assert ctl("auth", "generate-keys").exit_code == 0
    private = here / "keys" / "jwt-private-key.pem"
    first = private.read_text()
    assert stat.S_IMODE(os.stat(private).st_mode) == 0o600
    assert "PRIVATE" not in (here / "keys" / "jwt-public-key.pem").read_text()

    again = ctl("auth", "generate-keys")
    assert (again.exit_code, "--force" in again.stderr) == (2, True)
    assert private.read_text() == first
    assert ctl("auth", "generate-keys", "--force", "--key-size", 3072).exit_code == 0
    assert private.read_text() != first
    assert stat.S_IMODE(os.stat(private).st_mode) == 0o600


def test_a_token_is_signed_and_checked(ctl: Ctl, here: Path) -> None:
    """With permissions and roles, for some namespaces; what would be refused is told, with 3."""
    ctl("auth", "generate-keys")
    made = ctl("auth", "generate-token", "--role", "submitter", "-p", "dlq:*", "-n", "shop")
    shown = one_line(made)

    checked = ctl("auth", "validate-token", "--json", input=shown)
    facts = json.loads(checked.stdout)
    assert facts["subject"] == "tasker-client"
    assert facts["namespaces"] == ["shop"]
    assert facts["unknown_permissions"] == []
    assert {"tasks:create", "dlq:*"} <= set(facts["permissions"])
    for refused in (shown[:-4] + "AAAA", "abc"):
        assert ctl("auth", "validate-token", "--token", refused).exit_code == 3
    other = ctl("auth", "validate-token", "--token", shown, "--audience", "shop")
    assert (other.exit_code, "another audience" in other.stderr) == (3, True)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("generate-token",), "--permissions or --role"),
        (("generate-token", "--role", "king"), "no role"),
        (("create-key", "a", "-p", "tasks:delete"), "no such permission"),
        (("generate-token", "-p", "tasks:delete"), "no such permission"),
        (("create-key", "a", "-p", "*"), "no such permission"),
        (("create-key", "a\nb", "-p", "tasks:read"), "can be printed"),
        (("create-key", "a", "-p", "tasks:read", "--expires", "soon"), "--expires"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(ctl: Ctl, here: Path, args: Any, told: str) -> None:
    """Exit code 2, and what to write instead."""
    result = ctl("auth", *args)

    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr


def test_a_missing_private_key_is_told(ctl: Ctl, here: Path) -> None:
    """With its name."""
    result = ctl("auth", "generate-token", "--role", "reader")

    assert (result.exit_code, "jwt-private-key.pem" in result.stderr) == (1, True)


# --- the whole way ------------------------------------------------------------------------------


@pytest.fixture
def server(
    here: Path, ctl: Ctl, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LongRunning]:
    """A server that asks who calls; it takes API keys, and tokens of the pair in ./keys."""
    monkeypatch.setenv("DATABASE_URL", empty_database)
    assert ctl("db", "upgrade").exit_code == 0
    assert ctl("auth", "generate-keys").exit_code == 0
    monkeypatch.setenv("TASKER_JWT_PUBLIC_KEY_PATH", "keys/jwt-public-key.pem")
    with LongRunning(here, "server", "run", "--host", "0.0.0.0", "--port", 0) as server:
        monkeypatch.setenv("TASKER_URL", server.ready["url"])
        yield server


def test_client_and_command_line_show_who_calls(
    here: Path, server: LongRunning, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both kinds of credential, from the environment; 401 and 403 are exit code 5."""
    assert "nobody" not in server.stderr
    refused = ctl("task", "list")
    assert (refused.exit_code, "TASKER_API_KEY" in refused.stderr) == (5, True)

    key = one_line(ctl("auth", "create-key", "checkout", "--role", "submitter"))
    monkeypatch.setenv("TASKER_API_KEY", key)
    assert ctl("task", "list").exit_code == 0
    limited = ctl("dlq", "list")
    assert (limited.exit_code, "dlq:read" in limited.stderr) == (5, True)
    shown = one_line(ctl("auth", "generate-token", "-p", "dlq:*", "--subject", "ada"))
    monkeypatch.setenv("TASKER_AUTH_TOKEN", shown)  # beats the key
    listed = ctl("dlq", "list")
    assert listed.exit_code == 0, listed.stderr
    assert ctl("task", "list").exit_code == 5

    monkeypatch.delenv("TASKER_AUTH_TOKEN")
    monkeypatch.delenv("TASKER_API_KEY")
    (here / ".config").mkdir()
    method = 'orchestration.auth.method = {type = "ApiKey", value = {key_env = "SHOP_KEY"}}'
    (here / ".config" / "tasker.toml").write_text(f"[profile.shop]\n{method}\n")
    monkeypatch.setenv("SHOP_KEY", key)
    assert ctl("task", "list").exit_code == 5
    assert ctl("task", "list", "--profile", "shop").exit_code == 0
    assert ctl("task", "list", "--profile", "shoe").exit_code == 2

    with TaskerClient(api_key=key) as client:
        assert client.list_tasks().tasks == []
    with TaskerClient(token=shown) as client, pytest.raises(TaskerClientError) as caught:
        client.list_tasks()
    assert (caught.value.status_code, caught.value.recoverable) == (403, False)
    assert not [one for one in (key, shown) if one in server.stderr]


def test_keys_are_listed_and_revoked(server: LongRunning, ctl: Ctl) -> None:
    """Without what is secret of them; a server that never saw it refuses it at once."""
    made = json.loads(
        ctl(
            "auth",
            "create-key",
            "a",
            "-p",
            "tasks:list",
            "-n",
            "shop",
            "--expires",
            "90d",
            "--json",
        ).stdout
    )
    listed = ctl("auth", "list-keys", "--json").stdout
    (row,) = json.loads(listed)["items"]
    assert made["key"] not in listed
    assert (row["key_id"], row["namespaces"], row["is_valid"]) == (made["key_id"], ["shop"], True)
    assert row["expires_at"] > row["created_at"]

    assert ctl("auth", "revoke-key", made["key_id"]).exit_code == 0
    assert "revoked" in ctl("auth", "list-keys").stdout
    reply = httpx.get(f"{server.ready['url']}/v1/tasks", headers={"X-API-Key": made["key"]})
    assert (reply.status_code, "revoked" in reply.text) == (401, True)
    assert ctl("auth", "revoke-key", "000000000000").exit_code == 4


def test_a_server_that_asks_nobody_says_so_and_stays_on_this_machine(
    here: Path, ctl_process: Any, empty_database: str, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning, loopback only, and exit code 3 for another address; dev does not warn."""
    monkeypatch.setenv("DATABASE_URL", empty_database)
    refused = ctl_process("server", "run", "--host", "0.0.0.0", "--port", 0, "--upgrade")
    assert refused.returncode == 3
    assert "TASKER_AUTH=true" in refused.stderr
    with LongRunning(here, "server", "run", "--port", 0) as server:
        assert "asks nobody who they are" in server.stderr
        assert httpx.get(f"{server.ready['url']}/v1/tasks").status_code == 200
    with LongRunning(here, "dev", "--port", 0, "--no-reload") as dev:
        assert "asks nobody" not in dev.stderr


def test_no_request_makes_a_line_of_the_log(server: LongRunning) -> None:
    """Nor commands the terminal of whoever reads it."""
    url = server.ready["url"]
    bad = {"Authorization": "Bearer x", "X-Request-ID": "a%0aforged"}
    for _ in range(3):
        httpx.get(f"{url}/v1/tasks/%0aforged%1b[2J", headers=bad)
    httpx.get(f"{url}/v1/tasks/%0d%0aforged%1b[2J")

    assert "refused" in server.stderr
    assert not [line for line in server.stderr.splitlines() if line.startswith("forged")]
    assert "\x1b[2J" not in server.stderr

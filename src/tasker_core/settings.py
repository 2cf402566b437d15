"""Read the settings: one checked object from defaults, file, environment and arguments.

Later wins:

1. the defaults below;
2. `tasker.toml` in the working directory, or the file that TASKER_CONFIG names: flat
   keys, named like the fields: `worker_concurrency = 50`;
3. the environment: `TASKER_` and the field's name in capitals
   (`TASKER_WORKER_CONCURRENCY=50`); lists with commas; an empty variable counts as
   unset. Two names are shorter: DATABASE_URL, which TASKER_DATABASE_URL overrules,
   and TASKER_ENV for `environment`;
4. arguments: `Settings(worker_concurrency=50)`.

A name that does not exist is refused, so that a slip of the pen is not a default.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tasker_core.errors import InvalidSettings

MIB = 1024 * 1024

# Variables that others read: the client and its profiles, the logs, this module itself; and
# those of upstream's processes, which an application that is carried over may still set.
FOREIGN_VARIABLES = frozenset(
    {
        "TASKER_API_KEY",
        "TASKER_API_KEY_HEADER",
        "TASKER_AUTH_TOKEN",
        "TASKER_CLIENT_PROFILE",
        "TASKER_CLIENT_TRANSPORT",
        "TASKER_CONFIG",
        "TASKER_CONFIG_PATH",
        "TASKER_CONFIG_ROOT",
        "TASKER_INSTANCE_ID",
        "TASKER_INSTANCE_PORT",
        "TASKER_MESSAGING_BACKEND",
        "TASKER_NAMESPACE",
        "TASKER_TEST_DATABASE_URL",
        "TASKER_WEB_BIND_ADDRESS",
        "TASKER_WORKER_ID",
        "TASKER_LOG",
        "TASKER_LOG_FORMAT",
        "TASKER_ORCHESTRATION_AUTH_TOKEN",
        "TASKER_ORCHESTRATION_TIMEOUT_MS",
        "TASKER_ORCHESTRATION_URL",
        "TASKER_URL",
        "TASKER_WORKER_AUTH_TOKEN",
        "TASKER_WORKER_TIMEOUT_MS",
        "TASKER_WORKER_URL",
    }
)


def _check_database_url(url: str) -> str:
    scheme = urlsplit(url).scheme.split("+", 1)[0]
    if scheme not in {"postgresql", "postgres"}:
        raise ValueError("must be a URL like postgresql://user:password@host:5432/database")
    return url


BROKERS = ("amqp", "amqps", "kafka", "kafkas", "nats", "tls", "redis", "rediss")


def _check_events_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in BROKERS or not parts.netloc:
        raise ValueError(
            "must be a URL like amqp://user:password@host:5672/, kafka://host:9092, "
            "nats://host:4222 or redis://host:6379"
        )
    return url


def _check_events_topic(topic: str) -> str:
    try:
        filled = topic.format(namespace="shop", name="payment.charged")
    except (LookupError, ValueError, AttributeError):
        filled = ""
    if not filled or not re.fullmatch(r"[A-Za-z0-9._-]+", filled):
        raise ValueError(
            "must be letters, digits, '.', '_' and '-', with {namespace} and {name} for the event's"
        )
    return topic


def _check_jwks_url(url: str) -> str:
    parts = urlsplit(url)
    is_here = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if not parts.netloc or parts.scheme not in ({"http", "https"} if is_here else {"https"}):
        raise ValueError("must be a URL like https://login.example.com/.well-known/jwks.json")
    return url


def _split_list(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _positive(description: str, default: float | None) -> Any:
    return Field(default, gt=0, le=86_400, description=description)


class Settings(BaseSettings):
    """Everything that can be set, checked. See the module for where values come from.

    Raises:
        InvalidSettings: With every problem found: the name, the value, what it must be,
            and where it came from.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: Annotated[str, AfterValidator(_check_database_url)] | None = Field(
        None,
        repr=False,  # it may hold a password
        description="The PostgreSQL to use; the embedded one when not set.",
    )
    home: Path = Field(
        Path(".tasker"), description="Directory of the embedded PostgreSQL, shared by its users."
    )
    template_path: Path | None = Field(
        None, description="Directory of task templates to register at start."
    )
    environment: str = Field(
        "development",
        pattern=r"^[A-Za-z0-9_-]{1,50}$",
        description="Which environment's overrides of the templates hold.",
    )
    namespaces: Annotated[tuple[str, ...], BeforeValidator(_split_list)] | None = Field(
        None, description="Namespaces that a worker serves; all that it has handlers for if unset."
    )
    server_host: str = Field("127.0.0.1", min_length=1, description="Address of the HTTP server.")
    server_port: int = Field(8080, ge=0, le=65_535, description="Its port; 0 takes a free one.")
    dashboard: bool = Field(True, description="Whether the server has pages for a browser, at /.")
    grpc_host: str = Field(
        "127.0.0.1", min_length=1, description="Address of the server for gRPC; extra `grpc`."
    )
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Its port, 0 takes a free one; no gRPC if unset. 9190 is usual.",
    )
    grpc_tls_certificate: Path | None = Field(
        None,
        description="A file with its certificate, as PEM; no TLS if unset.",
    )
    grpc_tls_key: Path | None = Field(None, description="A file with the certificate's key.")
    grpc_tls_client_ca: Path | None = Field(
        None, description="A file with who signs clients' certificates; none is asked for if unset."
    )
    grpc_reflection: bool = Field(False, description="Whether gRPC tells what services there are.")
    grpc_health: bool = Field(True, description="Whether gRPC answers grpc.health.v1.")
    config_endpoint: bool = Field(
        False,
        description="Whether server and workers show their settings, without secrets, at /config.",
    )
    auth: bool | None = Field(
        None,
        description="Whether callers of the server must say who they are; if unset, they must "
        "once there is a key to check tokens with.",
    )
    allow_unprotected: bool = Field(
        False,
        description="Whether a server that asks nobody who they are serves other machines, too.",
    )
    jwt_public_key: str | None = Field(
        None, repr=False, description="The public key that tokens are checked with, as PEM."
    )
    jwt_public_key_path: Path | None = Field(None, description="A file with it.")
    jwks_url: Annotated[str, AfterValidator(_check_jwks_url)] | None = Field(
        None, description="Where the identity provider publishes its public keys."
    )
    jwks_refresh_seconds: float = _positive("How often they are read anew.", 3600.0)
    jwt_issuer: str = Field("tasker-core", min_length=1, description="The `iss` of tokens.")
    jwt_audience: str = Field(
        "tasker-api", min_length=1, description="What must be in the `aud` of tokens."
    )
    jwt_leeway_seconds: float = Field(
        60.0, ge=0, le=600, description="How far the clocks of server and issuer may differ."
    )
    jwt_permissions_claim: str = Field(
        "permissions",
        min_length=1,
        description="Where a token has its permissions: a list, or text with spaces; dots lead "
        "into objects.",
    )
    jwt_namespaces_claim: str = Field(
        "worker_namespaces",
        min_length=1,
        description="Where a token has the namespaces it is limited to, likewise.",
    )
    strict_permissions: bool = Field(
        True,
        description="Whether a token or key with a permission that there is not is refused; else "
        "the word grants nothing.",
    )
    requests_per_minute: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="How many requests a caller may send, on average; no limit if unset.",
    )
    requests_burst: int = Field(
        100, ge=1, le=1_000_000, description="How many of them may come at once."
    )
    streams_per_caller: int = Field(
        50, ge=1, le=100_000, description="How many event streams a caller may have open."
    )
    server_pool_size: int = Field(
        10, ge=2, le=1_000, description="How many connections the server holds at most."
    )
    server_waiting_requests: int = Field(
        200, ge=0, le=100_000, description="How many requests may wait for one of them."
    )
    server_statement_seconds: float = Field(
        25.0, gt=0, le=86_400, description="How long a statement of the server may take."
    )
    max_enqueued_steps: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="With so many steps enqueued, a namespace takes no more tasks over HTTP; "
        "any number if unset.",
    )
    worker_host: str = Field(
        "127.0.0.1", min_length=1, description="Address of a worker's health and metrics."
    )
    worker_port: int | None = Field(
        None, ge=0, le=65_535, description="Their port, 0 takes a free one; none if unset."
    )
    tracing: bool = Field(
        False, description="Whether to send traces, as the OTEL_ variables say; extra `otel`."
    )
    worker_concurrency: int = Field(
        20, ge=1, le=10_000, description="How many steps a worker runs at a time."
    )
    lease_seconds: float = Field(
        30.0, ge=1, le=86_400, description="How long a step stays with a worker that falls silent."
    )
    handler_timeout_seconds: float | None = _positive(
        "How long a handler may run when its step sets no timeout_seconds; no limit if unset.", None
    )
    shutdown_seconds: float = Field(
        30.0, ge=0, le=86_400, description="How long running handlers may take at shutdown."
    )
    poll_seconds: float = _positive(
        "How often an idle worker looks by itself, should a wake-up be lost.", 5.0
    )
    sweep_seconds: float = _positive("How often leases, time-outs and schedules are checked.", 5.0)
    stale_after_minutes: float = Field(
        60.0,
        gt=0,
        le=10_080,
        description="From when the report calls a task stale whose template does not say.",
    )
    retention_days: float | None = Field(
        None,
        gt=0,
        le=36_500,
        description="How long a task is kept after its end; for ever if unset.",
    )
    retention_keeps_identities: bool = Field(
        False, description="Whether duplicates of a task are refused after it has left, too."
    )
    events_url: Annotated[str, AfterValidator(_check_events_url)] | None = Field(
        None,
        repr=False,  # likewise
        description="The broker that durable events go to; subscribers of the workers if unset.",
    )
    events_topic: Annotated[str, AfterValidator(_check_events_topic)] = Field(
        "{namespace}.domain_events", description="Topic, queue, subject or stream of an event."
    )
    max_context_bytes: int = Field(
        4 * MIB, ge=1024, le=256 * MIB, description="Largest context of a task, as JSON."
    )
    max_result_bytes: int = Field(
        4 * MIB, ge=1024, le=256 * MIB, description="Largest result of a step, as JSON."
    )

    def __init__(self, **given: Any) -> None:
        found = [*_from_file(), *_from_environment()]
        found += [_Found(name, value, f"Settings({name}=…)") for name, value in given.items()]
        problems = [_unknown(item) for item in found if item.name not in type(self).model_fields]
        known = {item.name: item for item in found if item.name in type(self).model_fields}
        try:
            super().__init__(**{name: item.value for name, item in known.items()})
        except ValidationError as error:
            problems += _explain(error, known)
        if problems:
            raise InvalidSettings(problems)

    @property
    def asks_who_calls(self) -> bool:
        """Whether callers of the server must say who they are."""
        if self.auth is not None:
            return self.auth
        return bool(self.jwt_public_key or self.jwt_public_key_path or self.jwks_url)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave only the arguments: `__init__` reads the rest, to know where each came from."""
        return (init_settings,)


def sources() -> dict[str, str]:
    """Say of each setting that file or environment gives where its value comes from.

    Raises:
        InvalidSettings: The file cannot be read.
    """
    return {item.name: item.source for item in (*_from_file(), *_from_environment())}


def masked(name: str, value: Any) -> Any:
    """Give a setting's value as it may be shown: of secrets, that there is one.

    >>> masked("database_url", "postgresql://shop:secret@db/orders")
    'postgresql://shop:***@db/orders'
    """
    if value is None or Settings.model_fields[name].repr:
        return value
    return safe_url(str(value)) if name.endswith("_url") else "***"


def safe_url(url: str) -> str:
    """Take the password out of a URL, for logs and messages.

    >>> safe_url("postgresql://shop:secret@db/orders?password=secret")
    'postgresql://shop:***@db/orders?password=***'
    """
    # By pattern, up to the last @: a URL that no parser understands must not leak either.
    url = re.sub(r"^([^:/]+://[^:@/?#]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)(password\s*=\s*)[^&\s]*", r"\1***", url)


def variable(field: str) -> str:
    """Name the environment variable of a field.

    >>> variable("server_port"), variable("environment")
    ('TASKER_SERVER_PORT', 'TASKER_ENV')
    """
    return "TASKER_ENV" if field == "environment" else f"TASKER_{field.upper()}"


# --- the sources ----------------------------------------------------------------------


class _Found(NamedTuple):
    """A value, and for the messages where it was found."""

    name: str  # the field's, or one that does not exist
    value: Any
    source: str


def _from_file() -> Iterator[_Found]:
    named = os.environ.get("TASKER_CONFIG")
    path = Path(named or "tasker.toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise InvalidSettings([f"TASKER_CONFIG names {named}, which is not there"]) from None
        return
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        raise InvalidSettings([f"cannot read {path}: {error}"]) from error
    for name, value in content.items():
        yield _Found(name, value, str(path))


def _from_environment() -> Iterator[_Found]:
    fields = {variable(field): field for field in Settings.model_fields}
    if url := os.environ.get("DATABASE_URL"):
        yield _Found("database_url", url, "DATABASE_URL")
    for name, value in os.environ.items():
        if name.startswith("TASKER_") and name not in FOREIGN_VARIABLES and value:
            yield _Found(fields.get(name, name), value, name)


# --- the messages ---------------------------------------------------------------------


def _unknown(item: _Found) -> str:
    if item.name == item.source:  # a variable
        known = [variable(field) for field in Settings.model_fields]
        what = f"there is no variable {item.name}"
    else:
        known = list(Settings.model_fields)
        what = f"there is no setting {item.name} (from {item.source})"
    close = difflib.get_close_matches(item.name, known, n=1)
    return what + (f"; did you mean {close[0]}?" if close else "")


def _explain(error: ValidationError, found: Mapping[str, _Found]) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0])
        item = found[name]
        shown = safe_url(str(item.value)) if name.endswith("_url") else repr(item.value)
        yield f"{name} is {shown} (from {item.source}), but {_demand(problem['msg'])}"


def _demand(message: str) -> str:
    """Turn what pydantic says into the second half of our sentence."""
    message = message.removeprefix("Value error, ")
    return re.sub(r"^(Input|String|Value) should", "must", message)

"""The protocol: compiled as it is written, and as wide as the API over HTTP."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from pydantic import BaseModel

from tasker_core.server.rpc import PROTOS, messages
from tasker_core.server.rpc.convert import fill, read
from tasker_core.states import DlqReason, DlqStatus, StepState, TaskState
from tasker_core.wire import analytics, config, dlq, graph, health, steps, tasks, templates

SORTED = orjson.OPT_SORT_KEYS

PAIRS: list[tuple[str, type[BaseModel]]] = [
    ("CreateTaskRequest", tasks.TaskRequest),
    ("Task", tasks.TaskResponse),
    ("TaskContext", graph.TaskContextResponse),
    ("TaskSummary", graph.TaskSummary),
    ("SummaryTask", graph.SummaryTask),
    ("SummaryTemplateStep", graph.SummaryTemplateStep),
    ("SummaryStep", graph.SummaryStep),
    ("SummaryError", graph.SummaryError),
    ("SummaryDlq", graph.SummaryDlq),
    ("Step", steps.StepResponse),
    ("StepReadiness", steps.StepReadiness),
    ("ExecutionResult", steps.ExecutionResult),
    ("ResultMetadata", steps.ResultMetadata),
    ("ResultError", steps.ResultError),
    ("StepAudit", steps.StepAudit),
    ("ListTemplatesResponse", templates.TemplateListResponse),
    ("NamespaceSummary", templates.NamespaceSummary),
    ("TemplateSummary", templates.TemplateSummary),
    ("Template", templates.TemplateResponse),
    ("TemplateStep", templates.TemplateStep),
    ("PerformanceMetrics", analytics.PerformanceResponse),
    ("BottleneckAnalysis", analytics.BottleneckResponse),
    ("SlowStep", analytics.SlowStepResponse),
    ("SlowTask", analytics.SlowTaskResponse),
    ("ResourceUtilization", analytics.ResourceUtilization),
    ("DlqEntry", dlq.DlqEntryResponse),
    ("DlqStats", dlq.DlqStatsResponse),
    ("Investigation", dlq.InvestigationResponse),
    ("Staleness", dlq.StalenessResponse),
    ("UpdateInvestigationResponse", dlq.DlqUpdateResponse),
    ("UpdateInvestigationRequest", dlq.DlqUpdate),
    ("GetConfigResponse", config.ConfigResponse),
    ("CheckReadinessResponse", health.ReadinessResponse),
    ("HealthCheck", health.Check),
]
# What has no place here: links to pages, what is a part of its own, what has no effect.
LEFT_OUT = {
    "TaskSummary": {"links"},
    "Task": {"steps", "results"},
    "CreateTaskRequest": {"requested_at"},
}


def test_what_was_compiled_is_what_is_written(tmp_path: Path) -> None:
    """After a change of the .proto files: make protos."""
    made = tmp_path / "made.binpb"
    files = sorted(str(one.relative_to(PROTOS)) for one in PROTOS.rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={made}"]
    subprocess.run([*command, *files], cwd=PROTOS, check=True)

    written, compiled = (
        {one.name: one for one in FileDescriptorSet.FromString(file.read_bytes()).file}
        for file in (made, PROTOS.parent / messages.COMPILED)
    )
    assert written == compiled


@pytest.mark.parametrize(("name", "model"), PAIRS, ids=lambda one: str(one))
def test_a_message_has_what_the_document_has(name: str, model: type[BaseModel]) -> None:
    """A member that is added there is to be added here."""
    fields = set(messages.message(name).DESCRIPTOR.fields_by_name)
    assert set(model.model_fields) - LEFT_OUT.get(name, set()) <= fields


@pytest.mark.parametrize(
    ("enum", "words"),
    [
        ("TaskState", TaskState),
        ("StepState", StepState),
        ("DlqReason", DlqReason),
        ("DlqResolutionStatus", DlqStatus),
    ],
)
def test_an_enum_has_every_word(enum: str, words: type[StrEnum]) -> None:
    """And 0 for none."""
    found = messages.pool().FindEnumTypeByName(f"tasker.v1.{enum}")
    first, *rest = [value.name for value in found.values]
    prefix = first.removesuffix("UNSPECIFIED")
    assert {name.removeprefix(prefix).lower() for name in rest} == set(words)


@pytest.mark.parametrize(
    "value",
    [{"a": [1, 2.5, "x", None, True, {}, []], "b": {"c": {}}}, {}, {"n": 2**53, "m": -1, "o": 0.5}],
)
def test_json_comes_back_as_it_went(value: dict[str, Any]) -> None:
    """With its types; members have no order."""
    found = read(fill(messages.message("CreateTaskRequest")(), {"context": value}))["context"]
    assert found == value
    assert orjson.dumps(found, option=SORTED) == orjson.dumps(value, option=SORTED)

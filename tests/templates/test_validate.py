"""Every mistake between steps is found, under its own code and no other."""

from __future__ import annotations

import pytest

from tasker_core.errors import Severity
from tasker_core.templates.load import parse_template

HEAD = "name: t\nnamespace_name: ns\nversion: 1.0.0\n"


def step(name, *parents, type="standard", more=""):
    """Write a step as YAML."""
    line = f"- {{name: {name}, handler: {{callable: x}}, dependencies: [{', '.join(parents)}]"
    return f"{line}, type: {type}{', ' + more if more else ''}}}\n"


def check(*steps, more=""):
    """Check a template of these steps; leave out that results have no schema."""
    report = parse_template(f"{HEAD}{more}steps:\n{''.join(steps)}")
    return report, [f for f in report.findings if f.code != "NO_RESULT_SCHEMA"]


DECISION = (
    step("start"),
    step("choose", "start", type="decision"),
    step("left", "choose"),
    step("right", "choose"),
)
BATCH = (
    step("plan", type="batchable", more="batch_config: {worker_template: work}"),
    step("work", "plan", type="batch_worker"),
    step("close", "work", type="deferred_convergence"),
)
PLAIN_PLAN = step("plan", type="batchable")
WORK = step("work", "plan", type="batch_worker", more="batch_config: {}")

BROKEN = [
    ("DUPLICATE_STEP_NAME", "error", [step("a"), step("b", "a"), step("a", "b")]),
    ("SELF_DEPENDENCY", "error", [step("a"), step("b", "a", "b")]),
    ("MISSING_DEP_REF", "error", [step("a"), step("b", "a", "aa")]),
    ("CYCLE_DETECTED", "error", [step("a", "b"), step("b", "a")]),
    ("ORPHAN_STEP", "warning", [step("a"), step("b", "a"), step("c")]),
    ("REDUNDANT_DEPENDENCY", "info", [step("a"), step("b", "a"), step("c", "a", "b")]),
    ("DUPLICATE_DEPENDENCY", "warning", [step("a"), step("b", "a", "a")]),
    (
        "DECISION_WITHOUT_DEPENDENCY",
        "error",
        [step("a", type="decision"), step("b", "a"), step("c", "a")],
    ),
    ("DECISION_WITHOUT_BRANCHES", "warning", [step("a"), step("b", "a", type="decision")]),
    ("BRANCH_JOIN_NOT_DEFERRED", "warning", [*DECISION, step("join", "left", "right")]),
    (
        "CONVERGENCE_WITHOUT_DEPENDENCIES",
        "error",
        [step("a"), step("b", "a"), step("c", type="deferred_convergence")],
    ),
    (
        "BRANCH_JOIN_NOT_DEFERRED",
        "warning",
        [
            *DECISION,
            step("choose_again", "start", type="decision"),
            step("other", "choose_again"),
            step("join", "left", "other"),
        ],
    ),
    ("BRANCH_JOIN_NOT_DEFERRED", "warning", [*DECISION, *BATCH, step("p", "choose", "close")]),
    (
        "CONVERGENCE_NOT_DYNAMIC",
        "error",
        [step("a"), step("b", "a", type="deferred_convergence")],
    ),
    (
        "CONVERGENCE_NOT_DYNAMIC",
        "error",
        [*BATCH, step("meet", "plan", type="deferred_convergence")],
    ),
    (
        "CONVERGENCE_NOT_DYNAMIC",
        "error",
        [
            *BATCH,
            step("beside", "plan"),
            step("meet", "beside", type="deferred_convergence"),
            step("pay", "meet"),
        ],
    ),
    (
        "CONVERGENCE_NOT_DYNAMIC",
        "error",
        [*DECISION, step("meet", "start", "choose", type="deferred_convergence")],
    ),
    ("BATCH_WORKER_UNRESOLVED", "error", [PLAIN_PLAN, step("b", "plan")]),
    (
        "BATCH_WORKER_UNRESOLVED",
        "error",
        [PLAIN_PLAN, WORK, step("more", "plan", type="batch_worker")],
    ),
    (
        "BATCH_WORKER_UNRESOLVED",
        "error",
        [step("plan", type="batchable", more="batch_config: {worker_template: wrok}"), WORK],
    ),
    ("BATCH_CONFIG_MISSING", "error", [PLAIN_PLAN, step("work", "plan", type="batch_worker")]),
    (
        "BATCH_WORKER_TYPE",
        "error",
        [
            step("plan", type="batchable", more="batch_config: {worker_template: next}"),
            step("next", "plan"),
        ],
    ),
    ("BATCH_WORKER_PARENT", "error", [step("a"), step("b", "a", type="batch_worker")]),
    ("BATCH_WORKER_DEPENDENT", "error", [*BATCH, step("after", "work")]),
    ("BATCH_CONFIG_UNUSED", "warning", [step("a", more="batch_config: {batch_size: 5}")]),
]


@pytest.mark.parametrize(("code", "severity", "steps"), BROKEN)
def test_each_mistake_has_its_code(code, severity, steps):
    """A template with one mistake has one finding, with a line and advice."""
    report, findings = check(*steps)

    assert [(f.code, str(f.severity)) for f in findings] == [(code, severity)]
    assert findings[0].line is not None
    assert findings[0].step is not None
    assert report.valid == (severity != "error")
    assert (report.template is None) == (severity == "error")


@pytest.mark.parametrize(
    "steps",
    [
        [step("alone")],
        DECISION,
        BATCH,
        [PLAIN_PLAN, WORK, step("close", "work", type="deferred_convergence")],
        [*DECISION, step("join", "left", "right", type="deferred_convergence")],
        [*DECISION, step("l1", "left"), step("l2", "left"), step("l3", "l1", "l2")],
        [*BATCH, step("after", "close")],
        [*DECISION, *BATCH, step("meet", "left", "close", type="deferred_convergence")],
        [*DECISION, step("again", "left", type="decision"), step("deep", "again")],
        [*BATCH, step("meet", "plan", "close", type="deferred_convergence")],
    ],
)
def test_good_templates_have_no_findings(steps):
    """What is right is not talked about."""
    assert check(*steps)[1] == []


def test_the_worker_may_be_named_in_initialization():
    """worker_template_name of the handler's initialization names the worker, too."""
    plan = (
        "- {name: plan, type: batchable, batch_config: {}, "
        "handler: {callable: x, initialization: {worker_template_name: work}}}\n"
    )

    assert check(plan, WORK, step("more", "plan", type="batch_worker"))[1] == []


def test_a_ring_is_shown_and_pointed_at():
    """The message shows the way round; the place is the dependency that closes it."""
    report, (finding,) = check(step("a", "c"), step("b", "a"), step("c", "b"))

    assert report.has_cycles
    assert "a -> c -> b -> a" in finding.message
    assert (finding.path, finding.step) == ("/steps/1/dependencies/0", "b")


def test_a_misspelt_dependency_gets_a_suggestion():
    """The hint is the step whose name is nearest."""
    _, (finding,) = check(
        step("validate_cart"), step("pay", "validate_cart", "validate_card"), step("z", "pay")
    )

    assert finding.hint == "did you mean validate_cart?"
    assert finding.path == "/steps/1/dependencies/1"


def test_a_join_is_told_once():
    """Steps after a join of branches are not joins again."""
    _, findings = check(
        *DECISION, step("join", "left", "right"), step("then", "join"), step("end", "join", "then")
    )

    assert [(f.code, f.step) for f in findings if f.severity is Severity.WARNING] == [
        ("BRANCH_JOIN_NOT_DEFERRED", "join")
    ]


def test_decisions_in_a_row_are_counted():
    """More than ten are warned of, once, at the deepest."""

    def nested(depth):
        names = [f"d{n}" for n in range(depth)]
        above = ["start", *names]
        rows = [step(name, above[at], type="decision") for at, name in enumerate(names)]
        return [step("start"), *rows, step("end", names[-1])]

    assert check(*nested(10))[1] == []
    (finding,) = check(*nested(12))[1]
    assert (finding.code, finding.severity) == ("DECISION_DEPTH", Severity.WARNING)
    assert (finding.step, "number 12 in a row" in finding.message) == ("d11", True)


def test_overrides_name_steps():
    """An override for a step that is not there is an error; ALL is every step."""
    more = "environments: {test: {steps: [{name: ALL}, {name: aa, timeout_seconds: 5}]}}\n"

    _, (finding,) = check(step("a"), more=more)

    assert (finding.code, finding.severity) == ("ENV_UNKNOWN_STEP", Severity.ERROR)
    assert finding.path == "/environments/test/steps/1/name"
    assert finding.hint == "did you mean a?"


def test_results_without_schema_are_mentioned():
    """That a result has no schema is worth no more than a note."""
    report, _ = check(step("a"))

    assert [(f.code, f.severity) for f in report.findings] == [("NO_RESULT_SCHEMA", Severity.INFO)]


def test_a_validation_without_a_schema_is_told():
    """There is nothing that the step's results could be held against."""
    _, (finding,) = check(step("a", more="result_validation: enforce"))

    assert (finding.code, finding.severity) == ("RESULT_VALIDATION_UNUSED", Severity.WARNING)
    assert finding.path == "/steps/0/result_validation"

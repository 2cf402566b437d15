"""Files in, reports out; nothing about a file raises but load_template."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_core.errors import InvalidTemplate
from tasker_core.templates.document import read_document
from tasker_core.templates.load import (
    find_template_files,
    load_directory,
    load_template,
    parse_template,
    read_template,
)

EVERYTHING = """\
name: invoice_settlement
namespace_name: billing
version: 1.2.0
description: Price an invoice, route it for approval, settle it in batches
metadata: {author: Billing team, tags: ["domain:billing"]}
task_handler:
  callable: billing.tasks.InvoiceSettlement
  initialization: {input_validation: {required_fields: [invoice_id]}}
system_dependencies: {primary: ledger, secondary: [mailer]}
lifecycle: {max_duration_minutes: 240, staleness_action: dlq}
input_schema:
  type: object
  required: [invoice_id]
  properties: {invoice_id: {type: string, minLength: 1}}
steps:
  - name: price_invoice
    handler: {callable: billing.PriceInvoice, initialization: {rounding: half_even}}
    timeout_seconds: 20
    retry: {max_attempts: 4, backoff: fibonacci, backoff_base_ms: 250, max_backoff_ms: 8000}
    result_schema: {type: object, properties: {total: {type: number}}}
    publishes_events:
      - name: invoice.priced
        description: Totals are known
        schema: {type: object}
        delivery_mode: broadcast
  - name: choose_approval
    type: decision
    handler: {callable: choose_approval}
    dependencies: [price_invoice]
  - name: auto_approve
    handler: {callable: auto_approve}
    dependencies: [choose_approval]
  - name: ask_controller
    handler: {callable: billing.Approval, method: request}
    dependencies: [choose_approval]
    retry: {retryable: false, max_attempts: 1}
  - name: approved
    type: deferred_convergence
    handler: {callable: record_approval}
    dependencies: [auto_approve, ask_controller]
  - name: plan_settlement
    type: batchable
    handler: {callable: plan_settlement}
    dependencies: [price_invoice]
    batch_config: {batch_size: 500, worker_template: settle_lines, failure_strategy: fail_fast}
  - name: settle_lines
    type: batch_worker
    handler: {callable: settle_lines}
    dependencies: [plan_settlement]
  - name: close_invoice
    type: deferred_convergence
    handler: {callable: close_invoice}
    dependencies: [settle_lines]
environments:
  test:
    steps:
      - {name: ALL, timeout_seconds: 5}
      - {name: price_invoice, handler: {initialization: {rounding: floor}}}
"""


def test_a_template_that_uses_everything_is_valid():
    """Decisions, batches, events and overrides together have nothing but notes."""
    report = parse_template(EVERYTHING)

    assert report.valid
    assert (report.step_count, report.has_cycles) == (8, False)
    assert {f.code for f in report.findings} == {"NO_RESULT_SCHEMA"}


def test_json_is_a_template_too(order):
    """A definition as JSON text is the template that it came from."""
    assert parse_template(json.dumps(order.definition)).template == order


def test_report_of_a_file(tmp_path, order_text):
    """A report knows its file, and so does every finding."""
    file = tmp_path / "order.yaml"
    file.write_text(order_text)

    report = read_template(file)

    assert (report.path, report.valid, report.step_count) == (file, True, 2)
    assert {f.file for f in report.findings} == {str(file)}


def test_a_byte_order_mark_is_passed_over(tmp_path, order_text):
    """Files of editors that begin with a mark are read."""
    file = tmp_path / "order.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + order_text.encode())

    assert read_template(file).valid


def test_bytes_that_are_no_text(tmp_path):
    """Bytes that are not UTF-8 are a finding, with their line."""
    file = tmp_path / "bad.yaml"
    file.write_bytes(b"name: t\nauthor: \xff\xfe\n")

    (finding,) = read_template(file).findings

    assert (finding.code, finding.line) == ("UNREADABLE_FILE", 2)


def test_a_file_that_is_not_there(tmp_path):
    """A missing file and a directory are findings."""
    for path in (tmp_path / "none.yaml", tmp_path):
        (finding,) = read_template(path).findings
        assert finding.code == "UNREADABLE_FILE"


def test_load_template_raises_with_all_findings(tmp_path):
    """What read_template reports, load_template raises."""
    file = tmp_path / "bad.yaml"
    file.write_text("name: T\nnamespace_name: ns\nversion: 1.0\nfoo: 1\nsteps: []\n")

    with pytest.raises(InvalidTemplate) as caught:
        load_template(file)

    codes = [finding.code for finding in caught.value.findings]
    assert codes == ["INVALID_NAME", "INVALID_VERSION", "UNKNOWN_KEY", "NO_STEPS"]
    assert f"{file}:3:10" in str(caught.value)


def test_load_template_gives_the_template(tmp_path, order, order_text):
    """A valid file is its template."""
    file = tmp_path / "order.yml"
    file.write_text(order_text)

    assert load_template(file) == order


def test_files_are_found_below(tmp_path):
    """Both endings, all levels, in order; a file gives itself."""
    for name in ("b.yaml", "a.yml", "deep/er/c.yaml", "not.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    found = [str(path.relative_to(tmp_path)) for path in find_template_files(tmp_path)]

    assert found == ["a.yml", "b.yaml", "deep/er/c.yaml"]
    assert find_template_files(tmp_path / "not.txt") == [tmp_path / "not.txt"]


def test_two_files_of_one_version(tmp_path, order_text):
    """The second file under a name and version is refused, naming the first."""
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(order_text)

    first, second = load_directory(tmp_path)

    assert first.valid
    assert second.template is None
    assert second.findings[0].code == "DUPLICATE_TEMPLATE"
    assert str(tmp_path / "a.yaml") in second.findings[0].message


def test_a_bad_file_stops_no_other(tmp_path, order_text):
    """Every file has its report."""
    (tmp_path / "a.yaml").write_text("[")
    (tmp_path / "b.yaml").write_text(order_text)

    assert [report.valid for report in load_directory(tmp_path)] == [False, True]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)


def replace_somewhere(value, junk, data):
    """Put junk in the place of one value of a document."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = data.draw(st.sampled_from(keys))
    if isinstance(value[key], dict | list) and value[key] and data.draw(st.booleans()):
        replace_somewhere(value[key], junk, data)
    else:
        value[key] = junk


@given(JUNK, st.data())
def test_no_document_raises(junk, data):
    """Whatever stands in the place of whichever value, the answer is a report."""
    document = json.loads(json.dumps(read_document(EVERYTHING)[0].value))
    replace_somewhere(document, junk, data)

    report = parse_template(json.dumps(document))

    assert (report.template is None) == (not report.valid)

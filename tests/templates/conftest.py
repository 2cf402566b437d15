"""Templates for the tests of this room."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tasker_core.templates.load import parse_template
from tasker_core.templates.model import TaskTemplate

# A busy machine is no reason to fail: properties are about what, not how fast.
settings.register_profile(
    "patient", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

ORDER = """\
name: order_processing
namespace_name: shop
version: 1.0.0
task_handler:
  callable: shop.OrderProcessing
  initialization:
    input_validation:
      required_fields: [items, email]
input_schema:
  type: object
  required: [items, email]
  properties:
    items:
      type: array
      items: {type: object, required: [sku]}
    email: {type: string, format: email}
steps:
  - name: validate_cart
    handler: {callable: validate_cart}
    retry: {max_attempts: 2, backoff_base_ms: 100, max_backoff_ms: 5000}
  - name: take_payment
    handler: {callable: take_payment}
    dependencies: [validate_cart]
"""


@pytest.fixture
def order_text() -> str:
    return ORDER


@pytest.fixture
def order() -> TaskTemplate:
    template = parse_template(ORDER).template
    assert template is not None
    return template

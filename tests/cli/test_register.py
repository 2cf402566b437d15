"""`tasker-ctl template register`."""

from __future__ import annotations

import json

GOOD = """
name: hello
namespace_name: demo
version: 1.0.0
steps:
  - {name: greet, handler: {callable: greet}}
"""


def test_a_directory_of_templates_is_registered_once(ctl_process, own_database, tmp_path):
    """What is good is registered, what is not is told with its place; again changes nothing."""
    (tmp_path / "good.yaml").write_text(GOOD)
    refused = ctl_process("template", "register", tmp_path, DATABASE_URL=own_database)
    assert refused.returncode != 0
    assert "tasker-ctl db upgrade" in refused.stderr
    assert ctl_process("db", "upgrade", DATABASE_URL=own_database).returncode == 0
    (tmp_path / "bad.yaml").write_text(GOOD.replace("greet}}", "greet}, dependencies: [nobody]}"))

    first = ctl_process("template", "register", tmp_path, "--json", DATABASE_URL=own_database)

    assert first.returncode == 3
    assert [item["outcome"] for item in json.loads(first.stdout)] == ["refused", "registered"]
    assert "bad.yaml" in first.stderr
    assert "MISSING_DEP_REF" in first.stderr
    again = ctl_process("template", "register", tmp_path / "good.yaml", DATABASE_URL=own_database)
    assert again.returncode == 0
    assert "unchanged demo/hello 1.0.0" in again.stdout

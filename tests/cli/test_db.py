"""`tasker-ctl db`."""

from __future__ import annotations

import json

import pytest


def test_an_empty_database_is_brought_up_to_date(ctl_process, own_database):
    """Status tells before and after; a second upgrade has nothing to do."""
    before = ctl_process("db", "status", "--json", DATABASE_URL=own_database)
    assert before.returncode == 3
    facts = json.loads(before.stdout)
    assert (facts["current"], facts["found"]) == (False, 0)
    assert facts["pending"]

    done = ctl_process("db", "upgrade", "--json", "--database-url", own_database)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["applied"] == facts["pending"]

    after = ctl_process("db", "status", "--json", DATABASE_URL=own_database)
    assert after.returncode == 0
    assert json.loads(after.stdout) == {
        **facts,
        "current": True,
        "found": facts["wanted"],
        "pending": [],
        "functions_current": True,
    }

    again = ctl_process("db", "upgrade", DATABASE_URL=own_database)
    assert again.returncode == 0
    assert again.stderr == "nothing to do\n"


def test_looking_makes_no_embedded_database(ctl_process, tmp_path):
    """Where there is none yet, the answer is that there is none."""
    looked = ctl_process("db", "status")
    assert looked.returncode == 3
    assert "tasker-ctl db upgrade" in looked.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "exit_code", "code"),
    [
        ("postgresql://me:secret@127.0.0.1:1/db", 6, "database_unreachable"),
        ("mysql://me:secret@127.0.0.1/db", 3, "invalid_settings"),
    ],
)
def test_a_database_that_cannot_be_used(ctl_process, url, exit_code, code):
    """The password is not told."""
    for words in (("db", "upgrade"), ("db", "status")):
        refused = ctl_process(*words, "--json", DATABASE_URL=url)
        assert refused.returncode == exit_code
        assert json.loads(refused.stdout)["error"]["code"] == code
        assert "secret" not in refused.stdout + refused.stderr

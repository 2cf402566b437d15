"""Connections, wake-ups, migrations and the embedded server; knows no table.

connect.py     settings → `Database` → connections and pools; how to reconnect
asking.py      statements, apart from the connection that runs them
drivers.py     … and connections of applications, of whatever library, to run them on
listen.py      NOTIFY → a callback, over every broken connection
migrate.py     the schema `tasker`: where it stands, how to bring it up to date
embedded.py    one server for all processes of a directory
postmaster.py  beneath it: is the server alive, bring it up, bring it down
layout.py      … and where it lives
programs.py    … and the programs that it is made of
"""

from tasker_core.db.connect import Connection, Database, resolve_database

__all__ = ["Connection", "Database", "resolve_database"]

"""`tasker-ctl`: read the command line, make one call, print the answer.

main.py       the command itself; loads a group when it is named
options.py    what holds for every command: --format, --url, -v …
arguments.py  JSON, --set, template names and paths from the command line
output.py     data to stdout, everything else to stderr
failures.py   any error → one message, a hint, an exit code

task.py       create, get, list, cancel, steps …: over HTTP, with TaskerClient
watch.py      follow one task: a live view, lines or JSON
template.py   validate template files
register.py   make templates known to the database
scaffold/     generate handlers, their tests and templates
db.py         the schema: upgrade, status
processes.py  server run, worker run: begin, wait for a signal, end
dev.py        database, server and worker in one process
reload.py     beneath it: changed handlers and templates take effect
"""

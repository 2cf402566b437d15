"""Tell how server and worker are.

metrics.py       every metric there is, and the text that Prometheus reads
gauges.py        what is measured in the database, read once for all who ask
checks.py        what may be wrong, looked at one by one
listen.py        a socket for a small app, in this event loop
visible.py       data shown as text, which does nothing to whoever reads it
logs.py          log lines with the step and the request that they belong to

Spans are in `tasker_core.tracing`, beside the settings: the engine notes them, too.
"""

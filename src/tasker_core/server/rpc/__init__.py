"""gRPC beside HTTP: the same API by another road, with the extra `grpc`.

A call becomes a request to the app in this process, through every layer that a request
over HTTP passes: so who may do what, what is checked, and what is refused cannot differ.

proto/tasker/v1  the protocol; tasker_v1.binpb is what `make protos` compiles it to
messages.py      that → the classes of messages, and the services
tasks.py, steps.py, others.py   which request a call stands for, and what of the reply it gets
api.py           asks the app
convert.py       messages ↔ documents
status.py        a problem → a status, with details
calls.py         serves one call: reads, asks, answers, counts
standing.py      grpc.health.v1
tls.py           certificates
listen.py        the server
"""

from __future__ import annotations

from pathlib import Path

PROTOS = Path(__file__).parent / "proto"  # for those who make a client of it

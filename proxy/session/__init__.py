"""Sessions: whose they are, what a request says of them, what became of their transactions.

It knows what a message says of a session and must not know how a connection goes on: no queue, no
socket, no clock. Begin with ``ids.py`` and ``records.py`` (what a session is), then ``store.py``;
``info.py`` reads a request's session fields; ``commands.py`` decides the six session commands, each
one function and one row of the table at its end.
"""

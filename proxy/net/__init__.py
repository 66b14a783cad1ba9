"""Bytes between sockets: listeners, TLS, and the relay that carries out what was decided.

It knows sockets and conversations; it must not know the replica set, metrics or operators. Begin
with ``relay.py`` (both directions of one connection) and ``intake.py`` (what waits in front of it),
then ``transport.py`` and ``readiness.py``, and ``tls_transport.py`` and ``tls_records.py`` for TLS.
"""

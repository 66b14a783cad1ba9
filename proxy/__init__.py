"""mongo-session-proxy: a transparent proxy that sees and governs MongoDB server sessions.

Each folder is a wing with one purpose, and imports only those before it:

- ``wire``: forms of message
- ``session``: sessions, and the session commands
- ``conversation``: what happens to each message; what a rule is
- ``policies``, beside this package: the rules
- ``settings``: every setting
- ``net``: sockets
- ``upstream``: the replica set
- ``observe``: metrics and the audit log
- ``listing``, ``admin``, ``terminal``: what operators see
- ``process``: start, stop, reload, and each client from accept to close

``embedded`` is a server for demonstrations. ``docs/architecture.md`` follows a request through.
"""

__version__ = "0.1.0"

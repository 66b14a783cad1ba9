"""One client connection as a state machine: frames in, bytes and decisions out.

It knows sessions and the wire, and what a rule is (``rule.py``); it must not know sockets, time,
settings or any single rule. Begin with ``conversation.py``; ``handlers.py`` lists the commands that
are more than bytes to pass on: hello and logins (``handshake.py``), session commands
(``control.py``). ``desk.py`` is a connection's way to the sessions.
"""

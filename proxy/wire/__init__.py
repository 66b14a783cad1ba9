"""Bytes: frames, messages as views over them, BSON's top-level fields, compression, replies.

It knows MongoDB's wire protocol and nothing of sessions, users or connections. All forms of a
message become one in ``messages.py`` (requests) and ``replies.py``: begin there. ``frames.py`` cuts
bytes into frames; ``layouts.py`` and ``shapes.py`` recognise what was read before.
"""

"""Bytes: frames, messages as views over them, BSON's top-level fields, compression, replies.

It knows MongoDB's wire protocol and nothing of sessions, users or connections. Begin with
``messages.py`` (what a request is) and ``replies.py``; ``frames.py`` cuts bytes into frames.
"""

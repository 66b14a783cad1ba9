"""Bytes and messages of the MongoDB wire protocol. No I/O, no clock."""

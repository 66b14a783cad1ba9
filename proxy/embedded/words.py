"""Sets of names, written as the manuals list them."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of ``text``, which white space separates."""
    return frozenset(text.split())

"""Errors that cross module boundaries, as people and clients see them."""

from __future__ import annotations

import pytest

from proxy.errors import CommandError, ConfigError, TooManyFieldsError, WireError
from proxy.wire.frames import FramingError


def test_what_is_wrong_on_the_wire_is_one_kind():
    assert issubclass(TooManyFieldsError, WireError)
    assert issubclass(FramingError, WireError)


def test_a_command_error_is_put_in_one_line():
    error = CommandError(13, "Unauthorized", "not allowed")
    assert str(error) == "13 Unauthorized: not allowed"
    assert error == CommandError(13, "Unauthorized", "not allowed", ())
    assert error != CommandError(13, "Unauthorized", "not allowed", ("label",))
    with pytest.raises(CommandError, match="not allowed"):
        raise error


def test_settings_have_all_their_problems_told():
    error = ConfigError(["a.b: wrong", "c: missing"])
    assert error.problems == ["a.b: wrong", "c: missing"]
    assert str(error) == "a.b: wrong; c: missing"


def test_no_error_text_is_longer_than_anybody_reads():
    error = CommandError(13, "Unauthorized", "x" * 20_000_000)
    assert len(error.errmsg) == len(error.again().errmsg) < 10_000

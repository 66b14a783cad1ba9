"""What the proxy says itself, in the words of each version."""

from __future__ import annotations

import pytest

from proxy.errors import CommandError
from proxy.session import refusals
from proxy.session.dialect import said_by

VERSIONS = {"4.2": 8, "4.4": 9, "4.9": 12, "5.0": 13, "6.0": 17, "7.0": 21, "8.0": 25, "8.2": 27}

NEW_NAMES = {
    40413: "IDLDuplicateField",
    40414: "IDLFailedToParse",
    40415: "IDLUnknownField",
}


def since(version: str) -> list[int]:
    return [wire for wire in VERSIONS.values() if wire >= VERSIONS[version]]


@pytest.mark.parametrize(
    ("error", "first", "name", "text"),
    [
        *(
            (CommandError(code, f"Location{code}", "words"), "8.0", name, "words")
            for code, name in NEW_NAMES.items()
        ),
        (
            refusals.not_retryable("find"),
            "5.0",
            "NotARetryableWriteCommand",
            refusals.not_retryable("find").errmsg,
        ),
        (
            refusals.TOO_MANY_SESSIONS,
            "4.4",
            "TooManyLogicalSessions",
            "Unable to add session into the cache because the number of active sessions is too"
            " high",
        ),
        (
            refusals.wrong_subtype("a.id", "general", "UUID"),
            "5.0",
            "TypeMismatch",
            "BSON field 'a.id' is the wrong binData type 'general', expected type 'UUID'",
        ),
        (
            refusals.requires_authentication("killSessions"),
            "7.0",
            "Unauthorized",
            "Command killSessions requires authentication",
        ),
    ],
    ids=lambda value: str(getattr(value, "code", value))[:20],
)
def test_what_changed_and_when(error: CommandError, first: str, name: str, text: str) -> None:
    for wire in VERSIONS.values():
        said = said_by(error, wire)
        if wire in since(first):
            assert (said.code, said.code_name, said.errmsg) == (error.code, name, text)
        else:
            assert said is error


def test_of_an_unknown_version_nothing_is_known() -> None:
    assert said_by(refusals.TOO_MANY_SESSIONS, None) is refusals.TOO_MANY_SESSIONS


def test_labels_stay() -> None:
    labelled = CommandError(40415, "Location40415", "x", ("TransientTransactionError",))
    assert said_by(labelled, 25).labels == labelled.labels


@pytest.mark.parametrize(
    "text",
    [
        "Unauthorized to set user digest in LogicalSessionId",
        "there are no users authenticated",
        'not authorized on a to execute command { a: "command x requires authentication" }',
    ],
)
def test_other_refusals_are_left_alone(text: str) -> None:
    error = refusals.unauthorized(text)
    assert all(said_by(error, wire) is error for wire in VERSIONS.values())

from __future__ import annotations

import pytest

from proxy.errors import CommandError
from proxy.session import refusals

CONSTANTS = [one for one in vars(refusals).values() if isinstance(one, CommandError)]


@pytest.mark.parametrize("error", CONSTANTS)
def test_no_refusal_makes_a_driver_retry_but_251(error: CommandError) -> None:
    assert error.labels == ()


def test_251_makes_drivers_run_the_whole_transaction_again() -> None:
    error = refusals.no_such_transaction("gone")
    assert (error.code, error.labels) == (251, ("TransientTransactionError",))


@pytest.mark.parametrize("error", CONSTANTS)
def test_codes_without_a_symbol_are_locations(error: CommandError) -> None:
    assert (error.code_name == f"Location{error.code}") is (
        error.code > 10_000 and error.code != 11601
    )


def test_drivers_recognise_servers_without_transactions_by_these_words() -> None:
    assert refusals.TXN_ON_STANDALONE.code == 20
    assert refusals.TXN_ON_STANDALONE.errmsg.startswith("Transaction numbers")

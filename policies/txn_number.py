"""txnNumber, autocommit and startTransaction, as the server reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from proxy.session import refusals
from proxy.session.transactions import RETRYABLE_WRITES

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError

_ERRORS: Final = frozenset(
    (
        refusals.TXN_ILLEGAL_HERE,
        refusals.AUTOCOMMIT_ILLEGAL_HERE,
        refusals.TXN_WITHOUT_LSID,
        refusals.TXN_ON_STANDALONE,
        refusals.TXN_NEGATIVE,
        refusals.AUTOCOMMIT_WITHOUT_TXN,
        refusals.AUTOCOMMIT_TRUE,
        refusals.START_WITHOUT_AUTOCOMMIT,
        refusals.START_FALSE,
    )
)
_PATHS: Final = tuple(
    f"BSON field 'OperationSessionInfo.{name}'"
    for name in ("txnNumber", "autocommit", "startTransaction")
)


def concerns_transactions(error: CommandError) -> bool:
    """Whether the server refused one of these fields, and not the lsid or the statement ids."""
    return error in _ERRORS or error.errmsg.startswith(_PATHS)


class TxnNumber:
    """Refuses what upstream would refuse, where it does not check or ``refuse_early`` is set.

    A txnNumber is too old only against one that was seen accepted: the proxy may have missed
    the newer ones, but never sees too many.
    """

    name: ClassVar[str] = "txn_number"
    judges_routine: ClassVar[bool] = False
    judges_plans: ClassVar[bool] = False
    judges_privileges: ClassVar[bool] = False
    speaks_as_server: ClassVar[bool] = True

    @dataclass(frozen=True, slots=True)
    class Settings:
        #: Refuse here what upstream would refuse as well, in the words of a server 4.2.
        refuse_early: bool = False

    def __init__(self, settings: Settings) -> None:
        self._early = self.judges_transactions = settings.refuse_early

    def refuse(self, context: Context) -> CommandError | None:
        if context.upstream_checks and not self._early:
            return None
        info = context.info
        if info.malformed is not None:
            return info.malformed if concerns_transactions(info.malformed) else None
        if info.txn_number is None or info.lsid is None:
            return None
        command = context.request.command
        if info.autocommit is None and command not in RETRYABLE_WRITES:
            return refusals.not_retryable(command)
        newest = -1 if context.session is None else context.session.txn_number
        if info.txn_number < newest and not info.child:
            return refusals.transaction_too_old(info.txn_number, info.lsid, newest)
        return None

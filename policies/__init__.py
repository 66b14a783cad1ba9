"""The rules that come with the proxy, in the order in which they are asked."""

from __future__ import annotations

from typing import Final

from policies.kill_guard import KillGuard
from policies.ownerless_sessions import OwnerlessSessions
from policies.ownership import Ownership
from policies.session_budget import SessionBudget
from policies.stmt_ids import StmtIds
from policies.transaction_guard import TransactionGuard
from policies.txn_number import TxnNumber
from policies.user_name_length import UserNameLength

POLICIES: Final[tuple[type, ...]] = (
    Ownership,
    UserNameLength,
    OwnerlessSessions,
    TxnNumber,
    StmtIds,
    KillGuard,
    SessionBudget,
    TransactionGuard,
)

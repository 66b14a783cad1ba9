"""The rules that come with mongo-session-proxy, in the order in which they are asked.

One rule a file. What a rule is and what it may see says ``proxy/conversation/rule.py``. A new one
takes its file and its line below: settings, listings and metrics find it there. ``examples/`` has
some that are turned on by their names only.
"""

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

RULES: Final[tuple[type, ...]] = (
    Ownership,
    UserNameLength,
    OwnerlessSessions,
    TxnNumber,
    StmtIds,
    KillGuard,
    SessionBudget,
    TransactionGuard,
)

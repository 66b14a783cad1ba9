"""Sessions, transactions, cursors and connections as rows for people, and what these can be
filtered and sorted by.

Rows are JSON-like; times are in seconds before ``now``. What a row is sorted by is absolute, so
that the order stays the same from one page of a listing to the next. It knows sessions and must not
know who asks. Begin with ``kinds.py`` (what every listing says of itself).
"""

from proxy.listing.connections import CONNECTIONS
from proxy.listing.cursors import CURSORS, OpenCursor, cursor_row, open_cursors
from proxy.listing.kinds import (
    EVERYTHING,
    Key,
    Listing,
    Rank,
    Row,
    number_of,
    seconds_since,
    text_of,
)
from proxy.listing.sessions import (
    in_transaction,
    oldest_start,
    session_batches,
    session_listing,
    session_row,
    session_rows,
    uuid_text,
)
from proxy.listing.transactions import TRANSACTIONS, open_transactions, transaction_row

__all__ = [
    "CONNECTIONS",
    "CURSORS",
    "EVERYTHING",
    "TRANSACTIONS",
    "Key",
    "Listing",
    "OpenCursor",
    "Rank",
    "Row",
    "cursor_row",
    "in_transaction",
    "number_of",
    "oldest_start",
    "open_cursors",
    "open_transactions",
    "seconds_since",
    "session_batches",
    "session_listing",
    "session_row",
    "session_rows",
    "text_of",
    "transaction_row",
    "uuid_text",
]

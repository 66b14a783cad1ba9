"""``python -m proxy``: the same as the ``mongo-session-proxy`` command."""

from __future__ import annotations

import sys

from mongo_session_proxy import main

if __name__ == "__main__":
    sys.exit(main())

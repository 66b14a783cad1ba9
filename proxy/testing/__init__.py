"""For tests of rules of one's own: ask a rule without sockets, or run a proxy with it.

    def test_reports_have_no_transactions():
        ask = Asking(NoTransactions, applications=["reports"])
        assert ask({"find": "c"}, application="reports", transaction="start").code == 13
        assert ask({"find": "c"}, application="shop", transaction="start") is None

:class:`Asking` sends each command through a connection of the proxy's, without the network: what
comes to a rule there comes to it in a proxy. :func:`serving` runs one, with a server in memory
behind it.
"""

from __future__ import annotations

from proxy.testing.asking import Asking
from proxy.testing.serving import Login, serving

__all__ = ["Asking", "Login", "serving"]

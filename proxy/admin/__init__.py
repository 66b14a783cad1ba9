"""What operators look at and do, over HTTP.

It knows the listings and the store, and must not know sockets of clients or the process around it.
Begin with ``pages.py`` (every path), then ``kill.py``; ``http.py`` is the server.
"""

from proxy.admin.history import Remembered
from proxy.admin.http import listen, serve
from proxy.admin.overview import Overview
from proxy.admin.pages import pages
from proxy.admin.process import Process, State
from proxy.admin.several import Several

__all__ = ["Overview", "Process", "Remembered", "Several", "State", "listen", "pages", "serve"]

"""What operators look at and do, over HTTP."""

from proxy.admin.http import serve
from proxy.admin.pages import pages
from proxy.admin.process import Process, State

__all__ = ["Process", "State", "pages", "serve"]

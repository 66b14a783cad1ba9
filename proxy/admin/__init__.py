"""What operators look at and do, over HTTP."""

from proxy.admin.http import serve
from proxy.admin.pages import State, pages

__all__ = ["State", "pages", "serve"]

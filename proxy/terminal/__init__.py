"""The same listings and kills as on the web page, on a terminal: the commands beside ``serve``.

It knows the operators' JSON and nothing of what is behind it: it may run on another machine. Begin
with ``commands.py``; ``top.py`` is the live view.
"""

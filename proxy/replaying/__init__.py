"""What rules would have refused of what was written down: the audit log, and the history.

It knows rules and what those files say, and must not know a running proxy. Begin with
``events.py`` (lines as events), then ``glimpse.py`` (what a rule sees of one) and ``judging.py``.
"""

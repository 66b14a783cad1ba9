"""The configuration: every setting with its default, and the rules as it names them.

It knows the rules and reads files when it is asked to; it must not know what is done with a
setting. Begin with ``config.py``, where each setting is one line; those of a rule are declared by
the rule itself, and ``rules.py`` makes a table of them.
"""

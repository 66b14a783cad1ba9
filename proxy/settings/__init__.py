"""The configuration: every setting with its default, and the rules as it names them.

It knows the rules and reads files when it is asked to; it must not know what is done with a
setting. Begin with ``config.py``; ``rules.py`` makes a table of each rule's own settings.
"""

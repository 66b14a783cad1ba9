"""The configuration: every setting with its default, and the rules as it names them.

It knows the rules and reads files when it is asked to; it must not know what is done with a
setting. Begin with ``config.py``, which names the tables; each has a module where a setting is one
line, made of the kinds of values in ``kinds.py``. Those of a rule are declared by the rule itself,
and ``rules.py`` makes a table of them. ``reading.py`` makes settings of flags,
the environment (``environment.py``) and a file, each a layer (``layers.py``), and says where it is
from. ``cautions.py`` knows what is probably not meant; ``schema.py`` tells editors.
"""

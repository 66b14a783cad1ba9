"""What stands behind the proxy: the replica set, its members, and what each of them can do.

It asks upstream for hello and opens a listener for each member; it must not know what clients do.
Begin with ``topology.py`` (what is known, without I/O), then ``watcher.py`` (who asks).
"""

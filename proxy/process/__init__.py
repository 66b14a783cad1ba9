"""The process: start and stop, signals, reload, drain; and one client from accept to close.

It ties all wings together and decides nothing about a message. Begin with ``server.py``, then
``connection.py``; ``housekeeping.py`` does what nobody asks for, ``notify.py`` speaks to systemd.
"""

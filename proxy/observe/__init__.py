"""What is counted and written down: metrics and the audit log.

It knows everything below and changes nothing there. Begin with ``telemetry.py`` (what is counted
while messages pass); ``gauges.py`` and ``session_gauges.py`` read the present when somebody asks;
``recording.py`` is told what was decided, and ``audit.py`` writes it down.
"""

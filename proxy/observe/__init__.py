"""What is counted, written down and remembered: metrics, the audit log, the history.

It knows everything below and changes nothing there. A metric is in ``telemetry.py`` if it is
counted while messages pass, in ``session_gauges.py`` or ``gauges.py`` if it is read when somebody
asks; ``families.py`` and ``labels.py`` say what it may look like. ``recording.py`` is told what was
decided, and ``audit.py`` writes it down. ``history.py`` remembers what happened, of which
``flight.py`` takes note.
"""

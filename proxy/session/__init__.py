"""What the proxy knows of logical sessions, and what it decides about them. No I/O, no clock."""

"""mongo-session-proxy: a transparent proxy that sees and governs MongoDB server sessions."""

__version__ = "0.1.0"

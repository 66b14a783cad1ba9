"""What the proxy costs, measured side by side with doing without it and with its peers.

``python -m benchmarks`` runs everything on loopback, prints tables and writes JSON.
"""

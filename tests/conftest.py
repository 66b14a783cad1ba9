from __future__ import annotations

import hypothesis

# The same examples on every run, and none too slow for a busy machine.
hypothesis.settings.register_profile("proxy", deadline=None, derandomize=True)
hypothesis.settings.load_profile("proxy")

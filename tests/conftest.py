"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine may take long over any one example; that is no failure.
settings.register_profile("famcli", deadline=None)
settings.load_profile("famcli")

"""Properties may take their time: this machine may be busy, and a slow example is no fault."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("s3sync", deadline=None)
settings.load_profile("s3sync")

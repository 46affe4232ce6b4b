"""The state directory: the only code that writes to it. The disk is the truth."""

from s3sync_agent.webroot.failures import disk_errors
from s3sync_agent.webroot.store import Inventory, Space, Webroot

__all__ = ["Inventory", "Space", "Webroot", "disk_errors"]

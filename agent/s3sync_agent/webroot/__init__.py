"""The state directory: the only code that writes to it. The disk is the truth."""

from s3sync_agent.webroot.failures import disk_errors
from s3sync_agent.webroot.store import Armed, Inventory, Space, Webroot

__all__ = ["Armed", "Inventory", "Space", "Webroot", "disk_errors"]

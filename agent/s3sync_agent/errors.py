"""Every way this project can fail, as types.

A message says what happened and to what; `hint` says what to do next. "The remote is
wrong" (`ReleaseError`) and "could not ask" (`StoreError`) are never the same class, and
neither is ever turned into "nothing new".

`retryable` tells the agent's loop and the operator whether the same call may succeed later
without anybody changing anything. `exit_code` is what a command ends with; the numbers are
explained in docs/exit-codes.md.
"""

from __future__ import annotations


class S3SyncError(Exception):
    """Root of all expected errors; never raised itself."""

    retryable = False
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(S3SyncError):
    """A setting or an argument is wrong; the message lists every fault found, not the first."""

    exit_code = 2


class StoreError(S3SyncError):
    """S3 did not do what was asked."""

    exit_code = 3


class StoreUnavailable(StoreError):
    """S3 could not be asked: network, time-out, throttling, server error."""

    retryable = True


class StoreDenied(StoreError):
    """S3 refused us: credentials, permissions, clock."""


class StoreMisconfigured(StoreError):
    """The question itself is wrong: no such bucket, other region, not an S3 server."""


class ObjectMissing(StoreError):
    """The key does not exist (as far as these credentials may know)."""


class PreconditionFailed(StoreError):
    """If-Match or If-None-Match did not hold; nothing was read or written."""


class PointerConflict(StoreError):
    """Somebody else moved the pointer first; the message says who."""

    exit_code = 5


class PointerLost(StoreError):
    """A pointer was accepted before and is gone now. Never read as "use another source"."""


class ReleaseError(S3SyncError):
    """What S3 holds is not something that may go live."""

    exit_code = 4


class ReleaseMissing(ReleaseError):
    """No release of that version exists."""


class ReleaseRefused(ReleaseError):
    """The release is readable, but a rule forbids it; `hint` names the way out."""


class ManifestInvalid(ReleaseError):
    """The manifest breaks a rule of the contract."""


class PointerInvalid(ReleaseError):
    """The pointer breaks a rule of the contract."""


class TooLarge(ReleaseError):
    """An object is larger than the contract or the pointer says."""


class DigestMismatch(ReleaseError):
    """Bytes are not those that were announced."""


class UnsafePath(ReleaseError):
    """A path or version that must never reach a file system."""


class HeartbeatInvalid(ReleaseError):
    """What lies in an instance's place below `fleet/` is not a heartbeat of that instance."""


class SignatureInvalid(ReleaseError):
    """A pointer is not signed by a configured key."""


class RollbackRefused(ReleaseError):
    """A pointer's sequence is not above the accepted one."""


class StagingError(S3SyncError):
    """The release could not be put on this instance's disk."""

    retryable = True


class DiskFull(StagingError):
    """Bytes or inodes would not suffice; nothing was touched."""


class SourceChanged(StagingError):
    """`current/` changed while it was read; the work starts over."""


class ActivationError(S3SyncError):
    """A staged release could not be made live."""

    exit_code = 4


class HookVetoed(ActivationError):
    """A pre-activate hook said no."""


class HookUnusable(ActivationError):
    """A hook could not be asked (not root's, not executable, killed): it said neither yes nor no."""

    retryable = True
    exit_code = 2


class HookFailed(ActivationError):
    """A post-activate hook did not do its work; what is live stays."""


class ProbeFailed(ActivationError):
    """The site answered wrongly after the swap."""


class FleetError(S3SyncError):
    """The fleet did not take a release; the message says what was done about it."""

    exit_code = 6


class AgentBusy(S3SyncError):
    """Another agent owns this state directory."""

    exit_code = 2


class DriftFound(S3SyncError):
    """What is served is not what its manifest says."""

    exit_code = 4


class StateCorrupt(S3SyncError):
    """The state directory holds something only a person can judge."""


class MetricsNotTaken(S3SyncError):
    """Whoever collects metrics did not take them. Nothing that is served depends on it."""

    retryable = True


class BundleFailed(S3SyncError):
    """A bundle could not be made: no wheels for that Python and machine, or nobody to ask for them."""

    exit_code = 2


class SetupFailed(S3SyncError):
    """A step of setting up this instance failed; the message names it, and what was put back."""

    exit_code = 2


class DemoFailed(S3SyncError):
    """A step of the demo did not do what it should; the message names it."""

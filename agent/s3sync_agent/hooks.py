"""Hooks: what the owner of a machine wants run before and after a release goes live on it.

`hooks.d/pre-activate/*` are asked before this instance says that a release is staged, and can say no.
`hooks.d/post-activate/*` are told that it is live. One after another, in the order of their names; whoever
runs them waits. docs/hooks.md is for those who write them.

A hook that could not be asked said neither yes nor no (HookUnusable): that holds a release up, and is never
taken for a veto.
"""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from s3sync_agent.errors import ActivationError, HookFailed, HookUnusable, HookVetoed
from s3sync_agent.layout import escape
from s3sync_agent.report import Reporter
from s3sync_agent.subprocesses import End, run

PRE_ACTIVATE = "pre-activate"
POST_ACTIVATE = "post-activate"
# What editors, package managers and people leave beside a file. Anything else is a hook, whatever it is
# called: a dot or a space in a name must not make a hook that says no one that nobody asks.
LEFTOVERS = (
    ".*", "*~", "#*#", "*.bak", "*.disabled", "*.dpkg-*", "*.orig", "*.rej", "*.rpmnew", "*.rpmorig",
    "*.rpmsave", "*.swp", "*.tmp", "*.ucf-*",
)  # fmt: skip
_DOCS = "docs/hooks.md says what is run"
_LOOK = "the event has what it printed; docs/hooks.md says how to try a hook by hand"


@dataclass(frozen=True, slots=True)
class Subject:
    """The release that hooks are run for; `promotion_id` is "" for a plain site."""

    release: str
    version: str
    tree: Path
    promotion_id: str


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks below `folder`, each with `timeout` seconds. `trusted` are the users whose files are run."""

    folder: Path
    timeout: float
    site: str
    trusted: Collection[int] = frozenset({0})

    def ask(self, subject: Subject, reporter: Reporter, beat: Callable[[], None]) -> None:
        """Return when every pre-activate hook said yes; at once when there is none.

        `beat` is called several times a second; when it raises, the running hook is killed and asked again at
        another time. Raises HookVetoed for the first that ends with another code than 0 or is not done in
        time, and HookUnusable for one that cannot be asked: before any is run where that can be seen.
        """
        hooks = self._there(PRE_ACTIVATE)
        for hook in hooks:
            self._check(hook)
        for hook in hooks:
            end = self._run(hook, subject, beat)
            if why := _fault(end):
                name = _name(hook)
                told = {"hook": name, "release": subject.release, "message": why, "output": end.output}
                reporter.event("hook.vetoed", **told)
                raise HookVetoed(f"hook {escape(name)} said no to {subject.release}: {why}", hint=_LOOK)
            reporter.event("hook.done", hook=_name(hook), release=subject.release, seconds=end.seconds)

    def tell(self, subject: Subject, reporter: Reporter, beat: Callable[[], None]) -> None:
        """Run every post-activate hook. One that fails is reported, and the others are run all the same.

        Raises only what `beat` raises.
        """
        try:
            hooks = self._there(POST_ACTIVATE)
        except HookUnusable as error:
            _report(reporter, POST_ACTIVATE, subject, error)
            return
        for hook in hooks:
            name = _name(hook)
            try:
                self._check(hook)
                end = self._run(hook, subject, beat)
            except HookUnusable as error:
                _report(reporter, name, subject, error)
                continue
            if why := _fault(end):
                fault = HookFailed(f"hook {escape(name)}: {why}", hint=_LOOK)
                _report(reporter, name, subject, fault, end.output)
            else:
                reporter.event("hook.done", hook=name, release=subject.release, seconds=end.seconds)

    # ------------------------------------------------------------------- which there are

    def _there(self, phase: str) -> list[Path]:
        """The hooks of a phase in the order of their names' bytes; none where there is no such folder."""
        folder = self.folder / phase
        try:
            found = [entry for entry in folder.iterdir() if not _is_leftover(entry.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise HookUnusable(f"hooks cannot be looked for: {error}", hint=_DOCS) from error
        for each in (self.folder, folder) if found else ():
            self._check_owner(each, stat.S_ISDIR, "a directory")
        return sorted(found, key=lambda path: path.name.encode(errors="surrogateescape"))

    def _check(self, hook: Path) -> None:
        """Raises HookUnusable for what must not or cannot be run."""
        mode = self._check_owner(hook, stat.S_ISREG, "a file")
        if not mode & 0o111:
            raise HookUnusable(
                f"hook {escape(str(hook))} is not executable",
                hint=f"chmod +x {escape(str(hook))}; to switch it off, let its name end in .disabled",
            )

    def _check_owner(self, path: Path, is_kind: Callable[[int], bool], kind: str) -> int:
        """Not through links: who may write where they lead to is not known here."""
        shown = escape(str(path))
        try:
            found = path.lstat()
        except OSError as error:
            raise HookUnusable(f"{shown} cannot be looked at: {error.strerror}", hint=_DOCS) from error
        if not is_kind(found.st_mode):
            raise HookUnusable(f"{shown} is not {kind}", hint=f"links are not followed; {_DOCS}")
        if found.st_uid not in self.trusted or found.st_mode & 0o022:
            whose = f"owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}"
            raise HookUnusable(
                f"{shown} can be changed by others than root ({whose})",
                hint=f"chown root {shown} && chmod go-w {shown}",
            )
        return found.st_mode

    # ------------------------------------------------------------------------ running one

    def _run(self, hook: Path, subject: Subject, beat: Callable[[], None]) -> End:
        """Raises HookUnusable when it could not be started, or was killed by somebody else than us."""
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "S3SYNC_HOOK": hook.parent.name,
            "S3SYNC_SITE": self.site,
            "S3SYNC_RELEASE": subject.release,
            "S3SYNC_VERSION": subject.version,
            "S3SYNC_TREE": str(subject.tree),
            "S3SYNC_PROMOTION_ID": subject.promotion_id,
        }
        name = escape(_name(hook))
        try:
            end = run([str(hook)], environment=environment, cwd=subject.tree, timeout=self.timeout, beat=beat)
        except OSError as error:
            raise HookUnusable(
                f"hook {name} could not be started: {error.strerror}",
                hint="is its first line `#!` and a program that is here? may the agent's user read it?",
            ) from error
        if end.killed_by and not end.overran:
            raise HookUnusable(
                f"hook {name} was killed by {end.killed_by} after {end.seconds:.1f} s",
                hint="out of memory? it shares the agent's limit: systemctl show -p MemoryMax s3sync-agent",
            )
        return end


def _is_leftover(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in LEFTOVERS)


def _name(hook: Path) -> str:
    return f"{hook.parent.name}/{hook.name}"


def _fault(end: End) -> str:
    """How a hook did not end well; "" when it did."""
    said = f": {escape(end.last_line)}" if end.last_line else ""
    if end.overran:
        return f"it was not done after {end.seconds:.0f} s{said}"
    return f"it ended with {end.code}{said}" if end.code else ""


def _report(
    reporter: Reporter, name: str, subject: Subject, error: ActivationError, output: str = ""
) -> None:
    reporter.event(
        "hook.failed",
        hook=name,
        release=subject.release,
        error=type(error).__name__,
        message=str(error),
        hint=error.hint,
        output=output,
    )

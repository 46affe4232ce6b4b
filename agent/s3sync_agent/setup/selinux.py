"""SELinux: nginx may read the state directory and the sign of health. Where SELinux only warns, so do we."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from s3sync_agent.errors import SetupFailed
from s3sync_agent.layout import MachinePaths
from s3sync_agent.setup.distributions import Distribution
from s3sync_agent.setup.host import Host, Ran
from s3sync_agent.setup.steps import Finding, must

# nginx may read what bears this type. A file keeps the type it was created with when it is renamed,
# so staging has it as well.
TYPE = "httpd_sys_content_t"


def allowed(distribution: Distribution, paths: MachinePaths, host: Host) -> Finding:
    mode = host.ask("getenforce")
    if not mode.ok or mode.output == "Disabled":
        return Finding("SELinux is not in force")
    rules = _rules(host)
    if rules.code == 127 and mode.output != "Enforcing":
        return Finding(
            f"SELinux is {mode.output.lower()} and semanage is not installed, so files keep their types; "
            f"before enforcing: {distribution.install_semanage}, and call setup again"
        )
    if not rules.ok:
        raise SetupFailed(f"semanage: {rules.output}", hint=distribution.install_semanage)
    missing = [path for path in _labelled(paths) if not _has_rule(rules.output, path)]
    if not missing:
        return Finding(f"SELinux lets nginx read {paths.state_dir}")
    return Finding(f"give {paths.state_dir} the SELinux type {TYPE}", partial(_label, missing, paths))


def no_rules(paths: MachinePaths, host: Host) -> Finding:
    rules = _rules(host)
    there = [path for path in _labelled(paths) if rules.ok and _has_rule(rules.output, path)]
    if not there:
        return Finding("no SELinux rule of setup is there")

    def remove(host: Host) -> None:
        for path in there:
            must(host, "semanage", "fcontext", "--delete", path)

    return Finding("remove the SELinux rules", remove)


def _labelled(paths: MachinePaths) -> list[str]:
    return [f"{path}(/.*)?" for path in (paths.state_dir, paths.run_dir)]


def _rules(host: Host) -> Ran:
    return host.ask("semanage", "fcontext", "--list", "--locallist", "--noheading")


def _has_rule(rules: str, path: str) -> bool:
    return any(line.startswith(f"{path} ") and f":{TYPE}:" in line for line in rules.splitlines())


def _label(patterns: Iterable[str], paths: MachinePaths, host: Host) -> None:
    for pattern in patterns:
        must(host, "semanage", "fcontext", "--add", "--type", TYPE, pattern)
    must(host, "restorecon", "-R", str(paths.state_dir))
    host.run("restorecon", "-R", str(paths.run_dir))  # made by the first start

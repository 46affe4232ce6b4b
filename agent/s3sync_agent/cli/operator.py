"""`s3sync`: what CI and operators run. The table of its commands; each lives in a module of its kind."""

from __future__ import annotations

import click

from s3sync_agent import __version__
from s3sync_agent.cli.console import Commands, Lazy

_HERE = "s3sync_agent.cli"


@click.group(
    cls=Commands,
    epilog="AWS settings are boto3's own: AWS_PROFILE, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL and so on.",
    lazy={
        "check": Lazy(f"{_HERE}.publishing:check", "Look for faults in a folder before it is published."),
        "publish": Lazy(f"{_HERE}.publishing:publish", "Upload a folder as a release; nothing live changes."),
        "promote": Lazy(f"{_HERE}.promoting:promote", "Make a release live on every instance."),
        "rollback": Lazy(f"{_HERE}.promoting:rollback", "Make a release live again that was before."),
        "abort": Lazy(f"{_HERE}.promoting:abort", "Take back the promotion that is under way."),
        "freeze": Lazy(f"{_HERE}.promoting:freeze", "Refuse promotions for now, with a reason."),
        "unfreeze": Lazy(f"{_HERE}.promoting:unfreeze", "Allow promotions again."),
        "fleet": Lazy(f"{_HERE}.fleet:fleet", "Every instance: what it serves, and why not another."),
        "status": Lazy(f"{_HERE}.listing:status", "Which release is wanted, since when, by whom."),
        "releases": Lazy(f"{_HERE}.listing:releases", "The releases in S3."),
        "history": Lazy(f"{_HERE}.listing:history", "The latest promotions."),
        "diff": Lazy(f"{_HERE}.listing:diff", "The files that differ between two releases."),
        "verify": Lazy(f"{_HERE}.upkeep:verify", "Read a whole release in S3 and list every fault."),
        "prune": Lazy(f"{_HERE}.upkeep:prune", "Delete old releases from S3."),
        "bundle": Lazy(f"{_HERE}.bundling:bundle", "One file that installs the agent on an instance."),
        "userdata": Lazy(f"{_HERE}.bundling:userdata", "The script that makes a new machine an instance."),
        "demo": Lazy(f"{_HERE}.demo:demo", "Watch it work: S3, nginx and the agent on this machine."),
    },
)
@click.version_option(__version__, prog_name="s3sync")
def main() -> None:
    """Publish releases of a site to S3, and decide which one is live."""


if __name__ == "__main__":  # also run as a module, by who has the package but not its commands
    main()

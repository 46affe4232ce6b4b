"""The units for one site and for several: the same, but for where things are."""

from __future__ import annotations

from s3sync_agent.layout import MachinePaths
from s3sync_agent.setup.steps import shipped_unit


def lines_about_places(paths: MachinePaths) -> list[str]:
    config = f"--config {paths.config} " if paths.name else ""
    return [
        f"Description=Keeps the site in {paths.state_dir}/live equal to the release that S3 names",
        f"EnvironmentFile=-{paths.environment}",
        f"ExecStart=/opt/s3sync-agent/bin/s3sync-agent {config}run",
        f"StateDirectory={paths.state_dir.relative_to('/var/lib')}",
        f"RuntimeDirectory={paths.run_dir.relative_to('/run')}",
    ]


def test_an_agent_among_several_runs_in_the_very_sandbox_of_one_alone() -> None:
    one, several = MachinePaths(), MachinePaths("i")
    unit = shipped_unit(one.unit.name).decode().splitlines()
    template = shipped_unit(several.unit.name).decode().replace("%i", "i").splitlines()
    differ = [pair for pair in zip(unit, template, strict=True) if pair[0] != pair[1]]
    assert differ == list(zip(lines_about_places(one), lines_about_places(several), strict=True))


def test_a_name_is_taken_as_it_is_written() -> None:
    """%I would make a slash of every hyphen in it."""
    assert b"%I" not in shipped_unit(MachinePaths("blog-2").unit.name)

"""The machines of a test: as many as it boots, all gone when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import ClassVar

from tests.servers import Credentials
from tests.system.machine import Machine
from tests.system.metadata import Metadata
from tests.system.network import Hub


@dataclass(slots=True)
class Fleet:
    base: Path
    directory: Path
    hub: Hub
    metadata: Metadata
    resources: ExitStack = field(default_factory=ExitStack)

    _numbers: ClassVar[count[int]] = count(1)  # no address is ever given twice

    def boot(
        self,
        *,
        user_data: str = "",
        files: Mapping[str, str] | None = None,
        role: Credentials | None = None,
    ) -> Machine:
        """A new machine, `running`: all that `user_data` says has been done."""
        machine = self.launch(user_data=user_data, files=files, role=role, on=False)
        seconds = machine.start()
        print(f"\n{machine.name}: running after {seconds:.2f} s")
        return machine

    def launch(
        self,
        *,
        user_data: str = "",
        files: Mapping[str, str] | None = None,
        role: Credentials | None = None,
        on: bool = True,
    ) -> Machine:
        """A new machine that has been switched on and nothing more. `files` are in its image, `role` is
        whose credentials its metadata service hands out."""
        machine = Machine(
            next(self._numbers),
            base=self.base,
            directory=self.directory,
            hub=self.hub,
            resources=self.resources,
        )
        for path, text in (files or {}).items():
            machine.write(path, text)
        if user_data:
            self.metadata.user_data[machine.address] = user_data
        if role is not None:
            self.metadata.roles[machine.address] = role
        if on:
            machine.switch_on()
        return machine

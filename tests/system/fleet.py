"""The machines of a test: as many as it boots, all gone when it ends."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import ClassVar

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

    def boot(self, *, user_data: str = "") -> Machine:
        """A new machine, `running`; cloud-init has started what `user_data` says."""
        machine = Machine(
            next(self._numbers),
            base=self.base,
            directory=self.directory,
            hub=self.hub,
            resources=self.resources,
        )
        if user_data:
            self.metadata.user_data[machine.address] = user_data
        seconds = machine.start()
        print(f"\n{machine.name}: running after {seconds:.2f} s")
        return machine

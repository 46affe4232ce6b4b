"""What an Auto Scaling group does: launches instances, has them registered, and terminates them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.system.balancer import Balancer
from tests.system.fleet import Fleet
from tests.system.machine import Machine
from tests.system.metadata import instance_id

HEALTHY_SECONDS = 90.0


@dataclass(slots=True)
class Group:
    """`files` are in the image of its instances, `machines` are those that are in service or on their way."""

    fleet: Fleet
    balancer: Balancer
    user_data: str
    role_id: str
    files: Mapping[str, str]
    machines: list[Machine] = field(default_factory=list)

    def scale_out(self, count: int) -> list[Machine]:
        """So many more, switched on and registered: when they get visitors is the balancer's decision."""
        launched = []
        for _ in range(count):
            machine = self.fleet.launch(user_data=self.user_data, files=self.files)
            self.balancer.register(machine.address)
            launched.append(machine)
        self.machines += launched
        return launched

    def await_healthy(self) -> float:
        """Until the balancer sends visitors to all; the seconds that took."""
        addresses = {machine.address for machine in self.machines}
        return self.machines[0].wait_until(
            lambda: addresses <= self.balancer.healthy(), "for good health of all", seconds=HEALTHY_SECONDS
        )

    def terminate(self, machine: Machine) -> None:
        """As a scale-in does it: no more visitors, the announcement, the end."""
        self.machines.remove(machine)
        self.balancer.deregister(machine.address)
        self.fleet.metadata.lifecycle[machine.address] = "Terminated"
        machine.stop()

    def lose(self, machine: Machine) -> None:
        """Its power, without a word to anybody; it does not come back."""
        self.machines.remove(machine)
        machine.power_cut()

    def identity(self, machine: Machine) -> str:
        return f"{self.role_id}:{instance_id(machine.address)}"

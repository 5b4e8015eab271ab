"""The engines of a server, one for each model that it serves, as one."""

from collections.abc import Sequence
from dataclasses import fields

from onevision.generate.stats import EngineStats
from onevision.serve.supervisor import Supervisor


class Engines:
    """The engines of a server, together."""

    def __init__(self, supervisors: Sequence[Supervisor]) -> None:
        self.supervisors = tuple(supervisors)

    @property
    def is_alive(self) -> bool:
        """Whether all take steps."""
        return all(one.is_alive for one in self.supervisors)

    @property
    def num_restarts(self) -> int:
        """How many engines failed and were restarted."""
        return sum(one.num_restarts for one in self.supervisors)

    @property
    def longest_queue(self) -> int:
        """The most requests that wait for one of them."""
        return max(one.engine.stats.waiting for one in self.supervisors)

    @property
    def stats(self) -> EngineStats:
        """The sums of what each has done."""
        found = [one.engine.stats for one in self.supervisors]
        sums = {f.name: sum(getattr(one, f.name) for one in found) for f in fields(EngineStats)}
        return EngineStats(**sums)

    def check(self) -> None:
        """Starts those again that failed."""
        for one in self.supervisors:
            one.check()

    def limit_tenants(self, *, running: int | None, waiting: int | None) -> None:
        """Sets how many requests of one tenant may run and wait in each."""
        for one in self.supervisors:
            one.limit_tenants(running=running, waiting=waiting)

    def stop(self) -> None:
        """Stops all after the steps that they are taking."""
        for one in self.supervisors:
            one.stop()

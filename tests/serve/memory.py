"""Memory of a server and its workers, from /proc."""

import time
from pathlib import Path

from onevision.inputs.sandbox_worker import SandboxSettings


def workers(process_id: int) -> list[int]:
    """Returns the grandchildren of a server: one of its children is the fork server."""
    parents = _parents()
    children = [child for child, parent in parents.items() if parent == process_id]
    return [one for one, parent in parents.items() if parent in children]


def ready_workers(process_id: int) -> list[int]:
    """Returns the workers of a server once all that it keeps ready have been started."""
    wanted = SandboxSettings().num_workers + SandboxSettings().num_spare
    deadline = time.monotonic() + 60
    while len(found := workers(process_id)) < wanted:
        assert time.monotonic() < deadline, f"{len(found)} of {wanted} decoders have been started"
        time.sleep(0.05)
    return found


def family(process_id: int) -> list[int]:
    """Returns a process and its descendants."""
    parents, found = _parents(), [process_id]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _parents() -> dict[int, int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
        parents[int(path.parent.name)] = int(fields[1])
    return parents


def resident(process_id: int, field: str = "VmRSS") -> int:
    """Returns the resident bytes of a process, or with VmHWM their peak."""
    text = Path(f"/proc/{process_id}/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) * 1024


class Peak:
    """How far the memory of a server or of one of its workers rises from now on."""

    def __init__(self, process_id: int) -> None:
        self.before = {}
        for one in family(process_id):
            Path(f"/proc/{one}/clear_refs").write_text("5")  # resets the peak to the current value
            self.before[one] = resident(one)

    @property
    def growth(self) -> int:
        """Bytes by which the process that grew most has grown."""
        alive = [one for one in self.before if Path(f"/proc/{one}").exists()]
        return max(resident(one, "VmHWM") - self.before[one] for one in alive)

"""`onevision serve` that tells, when asked, what its memory holds; soak.py and tests start it.

    python -m benchmarks.inspected_server --port 0 --limit kv_bytes=33554432

Options are those of `onevision serve`. Each line of standard input is a question, answered by one
line of JSON on standard output:

    memory     resident bytes, what the C allocator has and has given out, descriptors, threads,
               entries of every cache that may fill
    objects    {"counts": {type: live objects}}, after a collection of garbage
    garbage    {"counts": {type: objects in cycles, which only a collection frees}} since it was
               asked last; Python collects nothing by itself from the first time on
    trace      begins to record where Python memory is allocated
    traced     {"bytes", "lines": {file:line: bytes gained}} since the last "trace" or "traced"
    forget     drops cached prefixes of a server that is idle, so that what is left can be compared
    trim       gives free pages of the allocator back to the system
"""

import ctypes
import gc
import json
import logging
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from onevision.cli import main

if TYPE_CHECKING:  # `serve` sets variables before anything imports torch
    from onevision.serve.service import Service

NUM_LINES = 25  # of code that are named
_libc = ctypes.CDLL(None)


class MallInfo(ctypes.Structure):
    """The answer of mallinfo2(3) of the GNU C library: bytes and counts."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd",
                     "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    )  # fmt: skip


class Inspector:
    """Answers questions about the memory of its own process."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._snapshot: tracemalloc.Snapshot | None = None

    def answer(self, question: str) -> dict[str, object]:
        """Returns the answer to a question."""
        match question:
            case "memory":
                return self._read_status() | read_heap() | self._count_entries()
            case "objects" | "garbage":
                count = count_objects if question == "objects" else collect_garbage
                return {"counts": count()}
            case "trace" | "traced":
                if question == "trace":
                    tracemalloc.start()
                return self._trace()
            case "forget":
                self._find().supervisor.engine.prefix_cache.shrink(0)
                return self._count_entries()
            case "trim":
                began = time.perf_counter()
                _libc.malloc_trim(0)
                return {"milliseconds": round(1000 * (time.perf_counter() - began), 2)}
        return {"error": f"{question!r} is no question"}

    def _read_status(self) -> dict[str, object]:
        text = Path("/proc/self/status").read_text()
        values = dict(line.split(":", 1) for line in text.splitlines())
        return {
            "rss": 1024 * int(values["VmRSS"].split()[0]),
            "rss_anonymous": 1024 * int(values["RssAnon"].split()[0]),
            "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "threads": threading.active_count(),
            "python_blocks": sys.getallocatedblocks(),
            "frozen_objects": gc.get_freeze_count(),
        }

    def _find(self) -> "Service":
        if self._service is None:
            self._service = find_service()
        return self._service

    def _count_entries(self) -> dict[str, object]:
        service = self._find()
        engine = service.supervisor.engine
        vision = engine.prefiller.vision_cache
        return {
            "prefixes": len(engine.prefix_cache),
            "prefix_bytes": engine.prefix_cache.idle_bytes,
            "visual_tokens": len(vision._tokens),
            "visual_token_bytes": vision.num_bytes,
            "encodings": len(service.model.processor.tokenizer._cache),
            "spelled_tokens": len(service._logprobs._spelled),
            "keys": sum(len(one.turns._used) for one in (service._reading, service._decoding)),
            "held": sum(len(one._held) for one in (service.bodies, service._waiting)),
            "metric_lines": service.metrics.text().count(b"\n"),
        }

    def _trace(self) -> dict[str, object]:
        gc.collect()
        taken = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__)]
        )
        lines = {}
        if self._snapshot is not None:
            gained = taken.compare_to(self._snapshot, "lineno")[:NUM_LINES]
            lines = {str(one.traceback[0]): one.size_diff for one in gained}
        self._snapshot = taken
        return {"bytes": tracemalloc.get_traced_memory()[0], "lines": lines}


def find_service() -> "Service":
    """Returns the service of this process, which the main thread is serving."""
    from onevision.serve.run import serve

    frame = sys._current_frames()[threading.main_thread().ident or 0]
    while frame.f_code is not serve.__code__:
        assert frame.f_back is not None, "the server does not run"
        frame = frame.f_back
    return frame.f_locals["service"]


def read_heap() -> dict[str, object]:
    """Returns what the allocator has taken from the system, by all arenas and by mappings."""
    _libc.mallinfo2.restype = MallInfo
    found = _libc.mallinfo2()
    return {
        "arenas": count_arenas(),
        "heap": found.arena + found.hblkhd,
        "heap_used": found.uordblks + found.hblkhd,
        "heap_free": found.fordblks,
        "heap_mapped": found.hblkhd,
    }


def count_arenas() -> int:
    """Returns how many arenas the allocator has; malloc_info(3) lists them in XML."""
    _libc.fopen.restype = ctypes.c_void_p
    with tempfile.NamedTemporaryFile() as out:
        stream = ctypes.c_void_p(_libc.fopen(out.name.encode(), b"w"))
        _libc.malloc_info(0, stream)
        _libc.fclose(stream)
        return len(ElementTree.parse(out.name).findall("heap"))


def count_objects() -> dict[str, int]:
    """Returns the number of live objects of each type that the garbage collector sees."""
    gc.collect()
    return count_types(gc.get_objects())


def count_types(objects: Iterable[object]) -> dict[str, int]:
    """Returns the number of objects of each type, by its full name."""
    kinds = Counter(map(type, objects))
    return {f"{kind.__module__}.{kind.__qualname__}": number for kind, number in kinds.items()}


def collect_garbage() -> dict[str, int]:
    """Returns how many objects of each type were unreachable but in cycles."""
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    counts = count_types(gc.garbage)
    gc.garbage.clear()
    gc.collect()
    return counts


def answer_questions() -> None:
    """Answers questions on standard input until it ends."""
    inspector = Inspector()
    for line in sys.stdin:
        try:
            answer = inspector.answer(line.strip())
        except Exception as error:  # told, since whoever asks would wait for ever
            logging.exception("a question about memory failed")
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    threading.Thread(target=answer_questions, daemon=True).start()
    sys.argv[1:1] = ["serve"]
    main()

"""Work on a GPU -> the same work as a CUDA graph: recorded once, then started by one launch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from onevision.anyres import Layout
from onevision.model.convnet import ConvNet
from onevision.model.vision import VisionEncoder


class GraphedVisionEncoder:
    """A vision encoder on a GPU that replays a number of crops from its second time on."""

    def __init__(self, encoder: VisionEncoder | ConvNet) -> None:
        self.encoder = encoder
        self._met: set[int] = set()  # numbers of crops
        # By number of crops: the graph, and the pixels [N, 3, H, W] that it reads.
        self._graphs: dict[int, tuple[Callable[[], Tensor], Tensor]] = {}
        self._pool: tuple[int, int] | None = None  # memory that all graphs share, one at a time

    def __call__(self, pixels: Tensor, _owners: Sequence[Layout] = ()) -> Tensor:
        """Encodes crops [N, 3, H, W] -> features [N, P, C], valid until the next call."""
        number = len(pixels)
        if number not in self._met:  # recording pays off only if the number comes again
            self._met.add(number)
            return self.encoder(pixels)
        if number not in self._graphs:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            own = pixels.clone()
            replay = capture_graph(lambda: self.encoder(own), device=own.device, pool=self._pool)
            self._graphs[number] = replay, own
        replay, inputs = self._graphs[number]
        inputs.copy_(pixels)
        return replay()


def capture_graph(
    run: Callable[[], Tensor], *, device: torch.device, pool: tuple[int, int] | None = None
) -> Callable[[], Tensor]:
    """Records what `run` does on a GPU; returns a function that repeats it.

    The function returns the same tensor each time. Graphs that share a `pool` overwrite each
    other's results. Sums over several devices are recorded, too, if all record at the same time.
    """
    with torch.cuda.device(device):
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        # Libraries allocate their workspaces, and devices connect, before recording.
        with torch.cuda.stream(side_stream):
            run()
            run()
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        # Only what this thread does may break a recording: a thread of NCCL's asks the GPU how far
        # it is at any moment.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):  # type: ignore
            result = run()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay

"""ModelConfig and the tensors of a checkpoint -> each tensor of the network with a stored one."""

from collections.abc import Mapping

from torch import Tensor

from onevision.accelerate.empty import without_memory
from onevision.checkpoint.adapted import TIED_HEAD
from onevision.checkpoint.contents import CheckpointContents
from onevision.checkpoint.files import StoredTensor
from onevision.checkpoint.names import TensorNames, foreign_name
from onevision.checkpoint.quantised import check_dtype
from onevision.config import ModelConfig
from onevision.errors import CheckpointError
from onevision.model.llava import LlavaNetwork
from onevision.plural import counted


def match_tensors(
    config: ModelConfig, contents: CheckpointContents, names: TensorNames | None,
    *, where: str, part: str = "",
) -> Mapping[str, StoredTensor]:  # fmt: skip
    """Pairs every tensor of the network, or of a part, with a stored one. Raises CheckpointError.

    Names and shapes must all match; `part` is how the names begin.
    """
    expected = _expected_tensors(config, num_stored=len(contents.tensor_names), where=where)
    if config.language.tie_embeddings:
        expected.pop(TIED_HEAD)
    stored_names = {ours: foreign_name(ours, names) for ours in expected if ours.startswith(part)}
    missing = sorted(set(stored_names.values()) - contents.tensor_names)
    unexpected = sorted(contents.tensor_names - set(stored_names.values()))
    if missing or unexpected:
        raise CheckpointError(
            f"{where}: {counted(len(missing), 'missing tensor')}{_examples(missing)}, "
            f"{len(unexpected)} unexpected{_examples(unexpected)}"
        )
    tensors = dict[str, StoredTensor]()
    for ours, name in stored_names.items():
        tensor, third = contents.tensors[name], None if names is None else names.third(ours)
        tensor = tensor if third is None else tensor.rows(third, of=3)
        check_dtype(tensor, where=where)
        if tensor.shape != tuple(expected[ours].shape):
            raise CheckpointError(
                f"{where}: tensor {name} is {list(tensor.shape)}; "
                f"the config asks for {list(expected[ours].shape)}"
            )
        tensors[ours] = tensor
    return tensors


def _expected_tensors(config: ModelConfig, *, num_stored: int, where: str) -> dict[str, Tensor]:
    """Returns the network's tensors without memory behind them, if its size is plausible."""
    vision, language = config.vision, config.language
    num_blocks = vision.num_layers + vision.num_spare_layers + language.num_layers
    if num_blocks + config.projector.num_layers > num_stored:
        raise CheckpointError(
            f"{where}: config.json asks for {num_blocks} blocks, there are {num_stored} tensors; "
            "use the config.json that came with the weights"
        )
    try:
        with without_memory():
            return LlavaNetwork(config).state_dict()
    except (RuntimeError, OverflowError) as error:
        raise CheckpointError(
            f"{where}: config.json describes no network that can be built ({error})"
        ) from error


def _examples(keys: list[str]) -> str:
    more = f", and {len(keys) - 4} more" if len(keys) > 4 else ""
    return f" ({', '.join(keys[:4])}{more})" if keys else ""

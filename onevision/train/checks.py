"""A run's settings and starts -> an error for what does not fit, before anything large is read."""

from collections.abc import Callable

from onevision.inputs.tokenizer import Tokenizer
from onevision.train.config import TrainConfig
from onevision.train.lora.adapt import check_adapters
from onevision.train.lora.begin import check_beginning
from onevision.train.offload.choice import warn_of_offload
from onevision.train.parallel import Processes
from onevision.train.start import Starts, check_tokenizer


def check_run(
    config: TrainConfig,
    tokenizer: Tokenizer,
    starts: Starts,
    processes: Processes,
    *,
    warn: Callable[[str], object],
) -> None:
    """Raises ConfigError for a tokenizer or adapters that do not fit; warns of useless settings."""
    check_tokenizer(tokenizer, starts)
    check_adapters(config.options.lora, config.stage, starts)
    check_beginning(config, processes)
    warn_of_offload(config.options.offload, processes.device, warn=warn)

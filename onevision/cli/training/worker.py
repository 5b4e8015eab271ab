"""One process of `onevision finetune --devices N`: the run whose settings lie in a directory."""

import sys
from pathlib import Path

from onevision.cli.training.run import train_and_show
from onevision.errors import OneVisionError
from onevision.inputs.tokenizer import Tokenizer
from onevision.train.config import read_train_config
from onevision.train.directory import RunDirectory
from onevision.train.start import Starts


def main(output: Path) -> None:
    """Runs this process's part; an expected error is one line and exit code 1."""
    try:
        config = read_train_config(RunDirectory(output).settings)
        (start,) = map(Path, config.starts)
        tokenizer = Tokenizer.from_directory(start)
        train_and_show(config, tokenizer, Starts(previous=(start,)), output)
    except OneVisionError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

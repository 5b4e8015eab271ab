"""`onevision chat`: a conversation in the terminal, with files attached by their path."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from onevision.cli.options import (
    DeviceOption,
    DtypeOption,
    MaxNewTokensOption,
    ModelOption,
    QuantizeOption,
    describe_usage,
    is_video,
    load_model,
)
from onevision.conversation import Conversation, Image, Message, Part, Reply, Text, Video
from onevision.errors import OneVisionError

Say = Callable[[str], None]

HELP = """\
Type a question. Attach files by typing or dropping their path, alone or before the question.
  /attach FILE ...   attach images or videos to your next message
  /drop              drop what is attached
  /clear             begin a new conversation
  /help              show this
  /exit              leave (also Ctrl-D)"""


def chat(
    model: ModelOption = "tiny",
    max_new_tokens: MaxNewTokensOption = 512,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
) -> None:
    """Talk with a model in the terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    with console.status(f"loading {model}"):
        loaded = load_model(model, device=device, dtype=dtype, quantize=quantize)
    console.print(f"[bold]onevision chat[/] with [bold]{model}[/]. /help says how.")
    messages: list[Message] = []
    attached: list[Image | Video] = []
    while True:
        try:
            line = console.input("[bold blue]you[/] ").strip()
        except EOFError:
            console.print()
            return
        except KeyboardInterrupt:
            console.print()
            continue
        if line in ("/exit", "/quit"):
            return
        if line.startswith("/") and not Path(line.split()[0]).exists():
            _command(line, messages, attached, say=console.print)
            continue
        files, words = split_paths(line)
        attached += [attachment(path) for path in files]
        if not words:
            if files:
                _list(attached, say=console.print)
            continue
        content: list[Part] = [*attached, Text(words)]
        try:
            answer = _answer(loaded.stream(
                Conversation([*messages, Message("user", content)]), max_new_tokens=max_new_tokens
            ))  # fmt: skip
        except OneVisionError as error:
            attached = []
            console.print("[red]error:[/] ", end="")
            console.print(str(error), markup=False, soft_wrap=True)
            continue
        messages += [Message("user", content), Message("assistant", answer.text)]
        attached = []
        console.print(f"[dim]{describe_usage(answer.usage)}[/]")


def split_paths(line: str) -> tuple[list[str], str]:
    """Split a line into the existing files it starts with and the words after them.

    Quotes, escaped spaces and file:// prefixes, as terminals write dropped files, are understood.
    """
    try:
        tokens = shlex.split(line)
    except ValueError:  # an apostrophe, not a quotation
        return [], line
    files: list[str] = []
    for token in tokens:
        path = token.removeprefix("file://")
        if not Path(path).is_file():
            break
        files.append(path)
    if not files:
        return [], line
    return files, " ".join(tokens[len(files) :])


def attachment(path: str) -> Image | Video:
    """Return a file as what its name says it is."""
    return Video(path) if is_video(path) else Image(path)


def _command(
    line: str, messages: list[Message], attached: list[Image | Video], *, say: Say
) -> None:
    command, _, rest = line.partition(" ")
    if command == "/attach" and rest:
        files, unknown = split_paths(rest)
        attached += [attachment(path) for path in files]
        if unknown:
            say(f"[red]no such file:[/] {unknown}")
        _list(attached, say=say)
    elif command == "/drop":
        attached.clear()
        say("[dim]nothing is attached[/]")
    elif command == "/clear":
        messages.clear()
        attached.clear()
        say("[dim]a new conversation[/]")
    else:
        say(HELP)


def _list(attached: list[Image | Video], *, say: Say) -> None:
    names = ", ".join(Path(str(media.source)).name for media in attached)
    say(f"[dim]attached: {names or 'nothing'}[/]")


def _answer(pieces: Iterator[str]) -> Reply:
    """Print an answer as it comes; return it whole."""
    print("  ", end="")
    while True:
        try:
            print(next(pieces), end="", flush=True)
        except StopIteration as end:
            print()
            return end.value

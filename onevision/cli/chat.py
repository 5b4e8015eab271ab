"""`onevision chat`: chat with a model in the terminal; attach files by typing their paths."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from onevision.cli.options import (
    AdapterOption,
    DeviceOption,
    DtypeOption,
    MaxNewTokensOption,
    ModelOption,
    QuantizeOption,
    VerifyOption,
    format_usage,
    is_video,
    load_model,
)
from onevision.conversation import Conversation, Image, Message, Part, Reply, Text, Video
from onevision.errors import OneVisionError

Print = Callable[[str], None]

HELP = """\
Type a question. Attach files by typing or dropping their path, alone or before the question.
  /attach FILE ...   attach images or videos to your next message
  /drop              remove all attachments
  /clear             start a new conversation
  /help              show this help
  /exit              quit (also Ctrl-D)"""


def chat(
    model: ModelOption = "tiny",
    max_new_tokens: MaxNewTokensOption = 512,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    adapter: AdapterOption = None,
    verify: VerifyOption = True,
) -> None:
    """Chat with a model in the terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    with console.status(f"loading {model}"):
        loaded = load_model(
            model, device=device, dtype=dtype, quantize=quantize, adapter=adapter, verify=verify
        )
    console.print(f"[bold]onevision chat[/] with [bold]{model}[/]. Type /help for commands.")
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
            _run_command(line, messages, attached, show=console.print)
            continue
        files, words = split_paths(line)
        attached += [to_attachment(path) for path in files]
        if not words:
            if files:
                _list_attachments(attached, show=console.print)
            continue
        content: list[Part] = [*attached, Text(words)]
        try:
            answer = _print_answer(loaded.stream(
                Conversation([*messages, Message("user", content)]), max_new_tokens=max_new_tokens
            ))  # fmt: skip
        except OneVisionError as error:
            attached = []
            console.print("[red]error:[/] ", end="")
            console.print(str(error), markup=False, soft_wrap=True)
            continue
        messages += [Message("user", content), Message("assistant", answer.text)]
        attached = []
        console.print(f"[dim]{format_usage(answer.usage)}[/]")


def split_paths(line: str) -> tuple[list[str], str]:
    """Split a line into the existing files it starts with and the text after them.

    Understands quotes, escaped spaces and file:// prefixes, as terminals insert dropped files.
    """
    try:
        tokens = shlex.split(line)
    except ValueError:  # an apostrophe, not a quote
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


def to_attachment(path: str) -> Image | Video:
    """Return a file as an Image or a Video, by its suffix."""
    return Video(path) if is_video(path) else Image(path)


def _run_command(
    line: str, messages: list[Message], attached: list[Image | Video], *, show: Print
) -> None:
    command, _, rest = line.partition(" ")
    if command == "/attach" and rest:
        files, unknown = split_paths(rest)
        attached += [to_attachment(path) for path in files]
        if unknown:
            show(f"[red]no such file:[/] {unknown}")
        _list_attachments(attached, show=show)
    elif command == "/drop":
        attached.clear()
        show("[dim]attachments removed[/]")
    elif command == "/clear":
        messages.clear()
        attached.clear()
        show("[dim]new conversation[/]")
    else:
        show(HELP)


def _list_attachments(attached: list[Image | Video], *, show: Print) -> None:
    names = ", ".join(Path(str(media.source)).name for media in attached)
    show(f"[dim]attached: {names or 'nothing'}[/]")


def _print_answer(pieces: Iterator[str]) -> Reply:
    """Print an answer as it streams; return the whole reply."""
    print("  ", end="")
    while True:
        try:
            print(next(pieces), end="", flush=True)
        except StopIteration as end:
            print()
            return end.value

import numpy as np
import pytest
import torch
from PIL import Image as PIL

from onevision import Conversation, Image, Message, Text, Usage, Video
from onevision.errors import InputError


def test_a_string_is_one_text():
    assert Message("user", "Hi").parts == (Text("Hi"),)


def test_a_single_part_needs_no_list():
    assert Message("user", Image("a.png")).parts == (Image("a.png"),)


def test_media_come_in_order():
    a, b, c = Image("a.png"), Video("b.mp4"), Image("c.png")
    talk = Conversation(
        messages=[
            Message(role="user", content=[a, Text("and"), b]),
            Message(role="assistant", content="Yes."),
            Message(role="user", content=[c, Text("?")]),
        ]
    )
    assert talk.media == (a, b, c)
    assert talk.awaits_answer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conversation([]), "empty"),
        (lambda: Conversation([Message("assistant", "Hi")]), "turn 1 is by 'assistant'"),
        (lambda: Conversation([Message("user", "a"), Message("user", "b")]), "turn 2"),
        (lambda: Conversation([Message("system", "s")]), "add a user message"),
        (lambda: Message("tool", "x"), "role is 'tool'"),
        (lambda: Message("user", [PIL.new("RGB", (1, 1))]), "expected Text, Image or Video"),
        (lambda: Message("assistant", [Image("a.png")]), "only user messages may"),
        (lambda: Text(3), "expected a string"),
        (lambda: Image("a.png", detail="huge"), "expected 'auto', 'low' or 'high'"),
        (lambda: Video("a.mp4", num_frames=0), "num_frames is 0"),
        (lambda: Video("a.mp4", fps=0), "fps is 0"),
        (lambda: Video("a.mp4", fps=float("nan")), "fps is nan"),
        (lambda: Video("a.mp4", start=-1), "start is -1"),
        (lambda: Video("a.mp4", start=3, end=2), "before its start"),
        (lambda: Video("a.mp4", num_frames=2.5), "num_frames is 2.5"),
        (lambda: Video("a.mp4", num_frames="8"), "num_frames is '8'"),
        (lambda: Video("a.mp4", fps="2"), "fps is '2'"),
        (lambda: Video("a.mp4", start="0"), "start is '0'"),
        (lambda: Video(np.zeros((4, 8, 8, 3))), "ndarray; expected a path, bytes, or a list"),
        (lambda: Video(torch.zeros(4, 3, 8, 8)), "the video source is Tensor"),
        (lambda: Video(frame for frame in ()), "the video source is generator"),
        (lambda: Video(None), "the video source is NoneType"),
        (lambda: Video(bytearray(b"x")), r"pass bytes\(...\)"),
        (lambda: Message("user", None), "the content of a user message is NoneType"),
        (lambda: Message("user", {"text": "x"}), "the content of a user message is dict"),
        (lambda: Message("user", "x", media_separator=None), "media_separator is None"),
        (lambda: Conversation("hi"), "the conversation is str; expected a list of messages"),
        (lambda: Conversation(Message("user", "hi")), "the conversation is Message"),
        (lambda: Conversation([{"role": "user"}]), "entry 1 of the conversation is dict"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_usage_adds_up():
    usage = Usage(text_tokens=3, image_tokens=730, video_tokens=197, completion_tokens=5)
    assert (usage.prompt_tokens, usage.total_tokens) == (930, 935)

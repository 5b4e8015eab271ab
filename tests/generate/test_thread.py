import queue
from dataclasses import replace

import pytest

from onevision import Conversation, Image, Message, Text, load
from onevision.generate.thread import EngineThread


def test_an_engine_thread_answers_whoever_asks_and_stops(picture):
    model = load("tiny")
    running = EngineThread(model.engine)
    running.start()
    pieces = [queue.Queue() for _ in range(3)]
    talk = Conversation([Message("user", [Image(picture(98, 98)), Text("What is this?")])])
    sampling = replace(model.sampling, max_new_tokens=5, end_ids=())
    for own in pieces:
        running.submit(model.prompt(talk), sampling, on_delta=own.put)
    for own in pieces:
        tokens = 0
        while tokens < 5:
            piece = own.get(timeout=60)
            tokens += len(piece.tokens)
        assert piece.finish_reason == "length"
        with pytest.raises(queue.Empty):
            own.get_nowait()
    assert running.is_alive
    running.stop()
    assert not running.is_alive

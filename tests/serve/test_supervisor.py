import queue
from dataclasses import replace

import pytest

from onevision import Conversation, Image, Message, Text, load
from onevision.generate.settings import EngineSettings
from onevision.serve.supervisor import Supervisor


def test_an_engine_in_a_thread_answers_all_who_ask_and_stops(picture):
    model = load("tiny")
    supervisor = Supervisor(model, EngineSettings())
    talk = Conversation([Message("user", [Image(picture(98, 98)), Text("What is this?")])])
    sampling = replace(model.sampling, max_new_tokens=5, end_ids=())
    deltas = [queue.Queue() for _ in range(3)]
    for own in deltas:
        supervisor.submit(
            model.prompt(talk), sampling, on_delta=own.put, tenant="", timeout_seconds=60
        )
    for own in deltas:
        tokens = 0
        while tokens < 5:
            delta = own.get(timeout=60)
            tokens += len(delta.tokens)
        assert delta.finish_reason == "length"
        with pytest.raises(queue.Empty):
            own.get_nowait()
    assert supervisor.is_alive
    supervisor.stop()
    assert not supervisor.is_alive

"""Budgets that stop a job, and endpoints that fail."""

import json

import pytest

from tests.curate.conftest import good, lines, records, run, write_pictures
from tests.eval.judge_server import serve


def instruct(captions, output, server, *more):
    url = server if isinstance(server, str) else server.url
    return run("curate", "instruct", captions, "-o", output, "--writer", url,
               "--writer-model", "rules", *more)  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--max-rows", 0, "--max-rows is 0, so nothing would be asked; expected at least 1"),
        ("--max-money", 0, "--max-money is 0.0, so nothing may be asked; expected more than 0"),
        ("--max-money", 3, "--max-money needs prices; give --writer-prices"),
        ("--max-errors", -1, "--max-errors is -1; expected 0 or more"),
        ("--writer-prices", "x", "--writer-prices is 'x'; expected two numbers"),
        ("--kinds", "poem", "no kind is named 'poem'; expected some of conversation,detail"),
    ],
)
def test_limits_that_cannot_be_meant(tmp_path, writer, option, value, said):
    found = instruct(write_pictures(tmp_path, 1), tmp_path / "out", writer, option, value)
    assert found.returncode == 1
    assert said in found.stderr and found.stderr.count("\n") == 1
    assert not writer.requests


def test_a_number_of_rows_stops_cleanly_and_is_raised_later(tmp_path, writer):
    captions, output = write_pictures(tmp_path, 4), tmp_path / "out"
    found = instruct(captions, output, writer, "--max-rows", 5)
    assert found.returncode == 0
    assert "stopped: --max-rows 5 is reached. 7 of 12 tasks are left" in found.stderr
    assert len(records(output)) == len(writer.requests) == 5
    assert instruct(captions, output, writer).returncode == 0
    assert len(records(output)) == len(writer.requests) == 12


def test_money_is_never_overspent(tmp_path, writer):
    captions, output = write_pictures(tmp_path, 6), tmp_path / "out"
    prices = ("--writer-prices", "1,100")  # a reply of 1,024 tokens costs 0.1024
    found = instruct(captions, output, writer, *prices, "--max-money", 0.2)
    assert found.returncode == 0
    assert "stopped: --max-money 0.2 is reached" in found.stderr
    summary = json.loads((output / "summary.json").read_text())
    assert 0.09 < summary["money"] <= 0.2 and summary["num_left"] == 18 - summary["num_kept"] > 0
    num_asked = len(writer.requests)
    assert instruct(captions, output, writer, *prices, "--max-money", 0.2).returncode == 0
    assert len(writer.requests) == num_asked  # what earlier runs spent counts
    assert instruct(captions, output, writer, *prices).returncode == 0
    assert len(records(output)) == 18


def test_money_counts_the_most_where_tokens_are_not_reported(tmp_path):
    with serve(str, writes=lambda body: (good(body), "stop"), tells_usage=False) as server:
        found = instruct(write_pictures(tmp_path, 2), tmp_path / "out", server,
                         "--writer-prices", "0,100", "--max-money", 0.25)  # fmt: skip
    assert "--max-money 0.25 is reached: 0.2048 is spent" in found.stderr
    assert len(server.requests) == 2


def test_nobody_there(tmp_path, free_port):
    url = f"http://127.0.0.1:{free_port}/v1"
    found = instruct(write_pictures(tmp_path, 1), tmp_path / "out", url, "--attempts", 2)
    assert found.returncode == 1
    assert "did not answer in 2 attempts; the last one failed with: " in found.stderr
    assert "Connection refused" in found.stderr and "3 of 3 tasks are left" in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_failure_is_told_although_the_rows_are_reached(tmp_path, writer):
    writer.garbage = [b"{}"]
    found = instruct(write_pictures(tmp_path, 2), tmp_path / "out", writer, "--attempts", 1,
                     "--max-rows", 3)  # fmt: skip
    assert found.returncode == 1 and "stopped: 1 query failed" in found.stderr
    assert "4 of 6 tasks are left" in found.stderr
    again = instruct(tmp_path / "captions.jsonl", tmp_path / "out", writer, "--max-rows", 3)
    assert again.returncode == 0 and "--max-rows 3 is reached" in again.stderr


def test_nobody_there_who_could_list_models(tmp_path, free_port):
    url = f"http://127.0.0.1:{free_port}/v1"
    found = run("curate", "instruct", write_pictures(tmp_path, 1), "-o", tmp_path / "out",
                "--writer", url)  # fmt: skip
    assert found.returncode == 1
    assert found.stderr == (
        f"error: the writer at {url} cannot be reached (Connection refused); check the address, "
        "and that it runs\n"
    )


@pytest.mark.parametrize("name", ["localhost:8000", "127.0.0.1:8000/v1", "htp://localhost/v1"])
def test_an_address_without_its_http_is_no_models_name(tmp_path, name):
    captions = write_pictures(tmp_path, 1)
    for command in (("instruct", captions, "--writer", name),
                    ("recaption", tmp_path / "pictures", "--captioner", name),
                    ("gate", captions, "--gate", "rating=3", "--judge", name)):  # fmt: skip
        found = run("curate", *command, "-o", tmp_path / "out")
        assert found.returncode == 1
        assert f"{name!r} is no endpoint's address; expected http:// or https://" in found.stderr


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "set ONEVISION_WRITER_KEY to a key that it accepts"),
        (403, "set ONEVISION_WRITER_KEY to a key that it accepts"),
        (404, "check the address, which mostly ends in /v1, and ONEVISION_WRITER_MODEL"),
    ],
)
def test_a_refusal_of_all_queries_says_what_to_do(tmp_path, writer, status, advice):
    writer.failures = [(status, {})]
    found = instruct(write_pictures(tmp_path, 1), tmp_path / "out", writer, "--parallel", 1)
    assert found.returncode == 1 and f"HTTP {status}" in found.stderr
    assert f"not now; {advice}. 3 of 3 tasks are left" in found.stderr


def test_a_wrong_key_stops_at_once(tmp_path, writer):
    writer.failures = [(401, {})]
    found = instruct(write_pictures(tmp_path, 3), tmp_path / "out", writer, "--parallel", 1)
    assert found.returncode == 1
    assert "stopped: the writer at" in found.stderr and "HTTP 401" in found.stderr
    assert len(writer.requests) == 1


def test_a_rate_limit_is_waited_out(tmp_path, writer):
    writer.failures = [(429, {"Retry-After": "0.1"})] * 2
    assert instruct(write_pictures(tmp_path, 1), tmp_path / "out", writer).returncode == 0
    assert len(records(tmp_path / "out")) == 3


def test_replies_without_text_fail_one_task_and_the_rest_goes_ahead(tmp_path, writer):
    captions, output = write_pictures(tmp_path, 2), tmp_path / "out"
    writer.garbage = [b"<html>"]
    found = instruct(captions, output, writer, "--attempts", 1)
    assert found.returncode == 1
    assert "stopped: 1 query failed, the last with: " in found.stderr
    assert "not a chat completion" in found.stderr and "1 of 6 tasks are left" in found.stderr
    assert found.stderr.count("\n") == 1
    (failed,) = [line for line in lines(output / "attempts.jsonl") if line["fault"]]
    assert failed["fault"] == "reply" and "not a chat completion" in failed["detail"]
    assert instruct(captions, output, writer).returncode == 0
    assert len(records(output)) == 6


def test_too_many_failures_stop_the_job(tmp_path, writer):
    writer.garbage = [b"{}"] * 9
    found = instruct(write_pictures(tmp_path, 6), tmp_path / "out", writer, "--attempts", 1,
                     "--max-errors", 3, "--parallel", 1)  # fmt: skip
    assert found.returncode == 1
    assert "stopped: 4 queries failed, more than --max-errors 3; the last with: " in found.stderr
    assert "not a chat completion" in found.stderr and found.stderr.count("\n") == 1
    assert len(writer.requests) == 4


def test_a_slow_endpoint_is_told_apart(tmp_path, writer):
    writer.delay_seconds = 0.4
    found = instruct(write_pictures(tmp_path, 1), tmp_path / "out", writer, "--attempts", 1,
                     "--timeout", 0.1, "--kinds", "detail")  # fmt: skip
    assert "stopped: 1 query failed" in found.stderr and "timed out" in found.stderr
    assert "1 of 1 tasks are left" in found.stderr
    (line,) = lines(tmp_path / "out" / "attempts.jsonl")
    assert line["fault"] == "timeout"


def test_a_query_that_the_endpoint_rejects_is_refused_for_good(tmp_path, writer):
    captions, output = write_pictures(tmp_path, 1), tmp_path / "out"
    writer.failures = [(400, {})]
    found = instruct(captions, output, writer)
    assert found.returncode == 0 and len(records(output)) == 2
    assert "refused query: 1; the first: HTTP 400 Bad Request: not now" in found.stdout
    (refused,) = [one for one in lines(output / "provenance.jsonl") if one["outcome"] != "kept"]
    assert refused["reason"] == "refused query" and "HTTP 400" in refused["detail"]
    assert instruct(captions, output, writer).returncode == 0
    assert len(writer.requests) == 3


def test_queries_in_flight_are_bounded(tmp_path, writer):
    writer.delay_seconds = 0.02
    captions = write_pictures(tmp_path, 5)
    assert instruct(captions, tmp_path / "out", writer, "--parallel", 3).returncode == 0
    assert writer.most_at_once == 3

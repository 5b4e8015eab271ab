"""A mixture of a million records opens at once and holds little."""

import json
import os
import subprocess
import sys

import pytest

NUM_RECORDS = 1_000_000
CODE = """
import sys, time
from pathlib import Path
from onevision.data.mixture import open_mixture
from onevision.data.order import Order
from onevision.train.report.metrics import peak_resident_bytes
path = Path(sys.argv[1])
began = time.perf_counter()
mixture = open_mixture(path)
seconds = time.perf_counter() - began
order = Order(mixture, seed=0, epoch=0)
for position in range(0, len(order), len(order) // 500):
    record = mixture.datasets[0].source.read(int(order.rows[position]))
    assert record.fields["id"] == str(order.rows[position])
print(len(order), seconds, peak_resident_bytes() / 2**20)
"""


@pytest.mark.slow
def test_a_million_records_hold_little_memory(tmp_path):
    path = tmp_path / "big.json"
    turns = json.dumps(
        [{"from": "human", "value": "a b " * 20}, {"from": "gpt", "value": "c " * 40}]
    )
    with path.open("w") as file:
        file.write("[")
        for number in range(NUM_RECORDS):
            comma = "," if number else ""
            file.write(f'{comma}\n{{"id": "{number}", "conversations": {turns}}}')
        file.write("]")
    environment = os.environ | {"ONEVISION_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", CODE, str(path)]
    for opening in ("first", "second"):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        count, seconds, mebibytes = map(float, done.stdout.split())
        assert count == NUM_RECORDS
        assert mebibytes < 500
        if opening == "second":
            assert seconds < 10

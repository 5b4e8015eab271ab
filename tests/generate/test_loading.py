"""A first answer waits for nothing that it does not need."""

import os
import subprocess
import sys

# Each takes as long to import as all of ours, or longer.
NOT_NEEDED = ("torch._dynamo", "sympy", "huggingface_hub", "httpx", "zentorch", "transformers")
ANSWER = f"""
import sys
from onevision import load
load("tiny").ask("What is this?", max_new_tokens=2)
load("tiny", quantize="int8").ask("What is this?", max_new_tokens=2)
print([name for name in {NOT_NEEDED} if name in sys.modules])
"""


def test_an_answer_imports_neither_a_compiler_nor_a_web_client(tmp_path):
    environment = {**os.environ, "ONEVISION_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", ANSWER]
    assert subprocess.check_output(command, env=environment, text=True).strip() == "[]"

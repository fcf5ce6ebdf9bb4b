"""llama-server on the GGUF file, 32 slots. Usage: drive_llamacpp.py SERVER MODEL.gguf WORK

Prompts behind a shared prefix are slow here by design: slots share nothing while they run.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import httpx
from calls import Call, Reply
from turns import Engine, serve

START_S = 60.0


class LlamaServer(Engine):
    def __init__(self) -> None:
        server, model = sys.argv[1:3]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [server, "-m", model, "-t", str(os.cpu_count()), "-np", "32", "-c", "65536"]
        command += ["--kv-unified", "--cache-ram", "1024", "--port", str(port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.url = f"http://127.0.0.1:{port}"
        deadline_s = time.monotonic() + START_S
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                self.close()
                raise SystemExit("llama-server did not start")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False

    async def together(self, coroutines) -> list:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self.url, timeout=900, limits=limits) as self.client:
            return await super().together(coroutines)

    async def ask(self, call: Call) -> Reply:
        body: dict[str, object] = {
            "prompt": call.ids,
            "n_predict": call.max_tokens,
            "temperature": call.temperature,
            "seed": call.seed,
            "ignore_eos": not call.is_constrained,
            "cache_prompt": True,
            "return_tokens": True,
        }
        if call.schema:
            body["json_schema"] = json.loads(call.schema)
        elif call.gbnf:
            body["grammar"] = call.gbnf
        reply = await self.client.post("/completion", json=body)
        reply.raise_for_status()
        done = reply.json()
        ids = done["tokens"]
        if done["stop_type"] == "eos" and len(ids) == done["tokens_predicted"]:
            ids = ids[:-1]  # the end of the sequence
        return Reply(ids, done["content"])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


if __name__ == "__main__":
    serve(LlamaServer)

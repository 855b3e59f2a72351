"""A server of the completions protocol around a model: log-probabilities of the prompt's tokens, on loopback alone."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

PATH = "/v1/completions"


class Completions:
    """Answers requests. `asked` holds the prompts, as token ids, that came in."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.asked: list[list[int]] = []
        self.lock = threading.Lock()

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock, torch.inference_mode():
            choices = [self.choice(index, ids, body) for index, ids in enumerate(self.prompts(body["prompt"]))]
        return {"id": "cmpl-0", "object": "text_completion", "model": body.get("model"), "choices": choices}

    def prompts(self, prompt: Any) -> list[list[int]]:
        """One text, several, the ids of one, or of several."""
        many = [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt
        found = [self.tokenizer.encode(p, add_special_tokens=False) if isinstance(p, str) else list(p) for p in many]
        self.asked += found
        return found

    def choice(self, index: int, ids: list[int], body: dict[str, Any]) -> dict[str, Any]:
        ids, n_prompt = list(ids), len(ids)
        logprobs_TV = self.logprobs(ids)
        for _ in range(body.get("max_tokens", 16)):
            ids.append(int(logprobs_TV[-1].argmax()))
            logprobs_TV = self.logprobs(ids)
        shown = ids if body.get("echo") else ids[n_prompt:]
        choice: dict[str, Any] = {"index": index, "text": self.tokenizer.decode(shown), "finish_reason": "length"}
        if body.get("logprobs") is not None:
            choice["logprobs"] = self.told(ids, logprobs_TV, len(ids) - len(shown), body["logprobs"])
        return choice

    def logprobs(self, ids: list[int]) -> Tensor:
        return self.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)

    def told(self, ids: list[int], logprobs_TV: Tensor, begin: int, top: int) -> dict[str, list[Any]]:
        """What precedes the first token is nothing, so it has no log-probability."""
        tokens = [self.tokenizer.decode([token]) for token in ids]
        own: list[float | None] = [None]
        best: list[dict[str, float] | None] = [None]
        for place in range(1, len(ids)):
            row_V = logprobs_TV[place - 1]
            own.append(float(row_V[ids[place]]))
            values, places = row_V.topk(max(top, 1))
            names = [str(self.tokenizer.decode([token])) for token in places.tolist()]
            best.append(dict(zip(names, values.tolist(), strict=True)))
        return {"tokens": tokens[begin:], "token_logprobs": own[begin:], "top_logprobs": best[begin:]}


@contextlib.contextmanager
def serving(completions: Completions) -> Iterator[str]:
    """The address of a server that runs for as long as the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != PATH:
                return self.send_error(404)
            return self.send(json.dumps(completions(json.loads(body))).encode())

        def do_GET(self) -> None:
            self.send_error(404)  # it has no tokenizer to offer

        def send(self, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{PATH}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

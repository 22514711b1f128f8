#!/usr/bin/env python3
"""In place of llama.cpp's server, which takes ten minutes to build: answers as it does, and fails as a test asks."""

import argparse
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("--model", "--alias", "--host", "--port"):
    parser.add_argument(name, required=True)
parser.add_argument("--metrics", action="store_true")
parser.add_argument("--jinja", action="store_true")
parser.add_argument("--n-gpu-layers", type=int)
parser.add_argument("--chat-template-kwargs", type=json.loads, default={}, help="what a test asks for, see below")
arguments = parser.parse_args()
asked = {
    "slow": 0.0,  # seconds until it is up
    "dies_after": None,  # seconds until it ends by itself
    "says": "",  # its last words
    "mute": None,  # a file: while it is there, nothing is generated
    "forks": False,  # a child that outlives it, as vLLM has
    **arguments.chat_template_kwargs,
}

counts = {"requests_processing": 0, "requests_deferred": 0, "prompt_tokens_total": 0, "tokens_predicted_total": 0}
lock = threading.Lock()


def count(**more: int) -> None:
    with lock:
        for name, number in more.items():
            counts[name] += number


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, content: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self.answer(200, "".join(f"llamacpp:{name} {number}\n" for name, number in counts.items()))
        else:
            self.answer(200, "{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked["mute"] and Path(asked["mute"]).exists():
            self.answer(500, '{"error": "mute"}')
            return
        count(requests_processing=1)
        time.sleep(body.get("seconds", 0))
        count(requests_processing=-1, prompt_tokens_total=1, tokens_predicted_total=1)
        self.answer(200, json.dumps({"choices": [{"text": f"{os.getpid()}"}]}))

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


def end() -> None:
    time.sleep(asked["dies_after"])
    print(asked["says"], flush=True)
    os._exit(1)


print(f"llama_model_loader: {arguments.model} of {os.environ.get('HF_TOKEN', 'nobody')}", flush=True)
if asked["forks"] and os.fork() == 0:
    time.sleep(600)
    os._exit(0)
if asked["dies_after"] is not None:
    threading.Thread(target=end, daemon=True).start()
time.sleep(asked["slow"])
try:
    server = Server((arguments.host, int(arguments.port)), Handler)
except OSError as error:
    sys.exit(f"couldn't bind HTTP server socket: {error}")
print("server is listening", flush=True)
server.serve_forever()

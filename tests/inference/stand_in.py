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
parser.add_argument("--slow", type=float, default=0, help="seconds until it is up")
parser.add_argument("--dies-after", type=float, help="seconds until it ends by itself")
parser.add_argument("--says", default="", help="its last words")
parser.add_argument("--mute", help="a file: while it is there, nothing is generated")
arguments = parser.parse_args()

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
        if arguments.mute and Path(arguments.mute).exists():
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
    time.sleep(arguments.dies_after)
    print(arguments.says, flush=True)
    os._exit(1)


print(f"llama_model_loader: {arguments.model} of {os.environ.get('HF_TOKEN', 'nobody')}", flush=True)
if arguments.dies_after is not None:
    threading.Thread(target=end, daemon=True).start()
time.sleep(arguments.slow)
try:
    server = Server((arguments.host, int(arguments.port)), Handler)
except OSError as error:
    sys.exit(f"couldn't bind HTTP server socket: {error}")
print("server is listening", flush=True)
server.serve_forever()

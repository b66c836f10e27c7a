"""Stand-ins of the Hugging Face Hub: on loopback, tiny models in the file formats of the originals; one for writing."""

import hashlib
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch
from transformers import RobertaConfig, RobertaForSequenceClassification

from tests.support import tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = (".bin", ".safetensors", ".gguf")


class Hub:
    """Serves the folders below `root` as models named `owner/name`, as the Hub serves them.

    Small files come straight, weights through a redirect to another address. Set before a call:
    `breaks`: how many downloads of weights break off halfway; `reset`: whether they do so with a reset, as a dropped
    line, instead of an orderly close. `pace`: seconds of pause after each twentieth of the weights. `gated`: models
    whose terms nobody has accepted. `blocked`: a proxy refuses all requests. A token with "expired" in it is invalid.
    `requests` lists the requests as (method, model, file, range).
    """

    def __init__(self, root: Path):
        self.root = root
        self._servers: list[ThreadingHTTPServer] = []
        self._ports = [0, 0]
        self.reset_all()
        self.start()

    def reset_all(self) -> None:
        """Sets all faults back and forgets the requests."""
        self.breaks, self.reset, self.pace, self.blocked = 0, False, 0.0, False
        self.gated: set[str] = set()
        self.requests: list[tuple[str, str, str, str | None]] = []

    def start(self) -> None:
        """Listens, on the same ports as before: one for the Hub, one for where it keeps weights."""
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = [ThreadingHTTPServer(("127.0.0.1", port), handler) for port in self._ports]
        self._ports = [server.server_address[1] for server in self._servers]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuses connections."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def cdn(self) -> str:
        """Where weights come from."""
        return f"http://127.0.0.1:{self._ports[1]}/cdn"

    def requests_for(self, ending: str, method: str | None = None) -> list[tuple[str, str, str, str | None]]:
        """The requests for files of that ending."""
        return [r for r in self.requests if r[2].endswith(ending) and method in (None, r[0])]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.hub.blocked:
            return self._send(403, b"<h1>Not from here</h1>", {"Content-Type": "text/html"})
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:])
        elif parts[0] == "cdn":
            self._weights("/".join(parts[1:3]), "/".join(parts[3:]))
        elif parts[2:3] == ["resolve"]:
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._refuse(404, "EntryNotFound")

    do_HEAD = do_GET

    def _known(self, model: str, file: str) -> bool:
        self.hub.requests.append((self.command, model, file, self.headers.get("Range")))
        token = self.headers.get("Authorization", "")
        if "expired" in token:
            self._send(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif model in self.hub.gated and not file.startswith("api"):  # lists of files are public
            self._refuse(403 if token else 401, "GatedRepo")
        elif not (self.hub.root / model).is_dir():
            self._refuse(401, "RepoNotFound")  # the Hub's answer to a visitor without a token
        else:
            return True
        return False

    def _api(self, model: str, segments: list[str]) -> None:
        if not self._known(model, "/".join(["api", *segments])):
            return
        folder = self.hub.root / model
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        if not segments or segments[0] == "revision":
            payload = {"id": model, "sha": COMMIT, "tags": [],
                       "siblings": [{"rfilename": file, "size": (folder / file).stat().st_size} for file in files]}
        elif segments[0] == "tree" and len(segments) == 2:
            payload = [self._entry(folder, file) for file in files]
        else:
            return self._refuse(404, "EntryNotFound")
        self._send(200, json.dumps(payload).encode(), {"Content-Type": "application/json"})

    @staticmethod
    def _entry(folder: Path, file: str) -> dict:
        path = folder / file
        size = path.stat().st_size
        large = {"lfs": {"oid": _hash(path.read_bytes()), "size": size, "pointerSize": 130}}
        return {"type": "file", "path": file, "size": size, "oid": "0" * 40,
                **(large if path.name.endswith(WEIGHTS) else {})}

    def _resolve(self, model: str, revision: str, file: str) -> None:
        if not self._known(model, file):
            return
        path = self.hub.root / model / file
        if revision not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if not path.is_file():
            return self._refuse(404, "EntryNotFound")
        body = path.read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_hash(body)}"', "Accept-Ranges": "bytes"}
        if file.endswith(WEIGHTS):
            linked = {"X-Linked-ETag": headers["ETag"], "X-Linked-Size": str(len(body))}
            self._send(302, b"", {**headers, **linked, "Location": f"{self.hub.cdn}/{model}/{file}"})
        else:
            self._send(200, body, headers)

    def _weights(self, model: str, file: str) -> None:
        byte_range = self.headers.get("Range")
        self.hub.requests.append((self.command, model, file, byte_range))
        body = (self.hub.root / model / file).read_bytes()
        start = int(byte_range.removeprefix("bytes=").split("-")[0]) if byte_range else 0
        self.send_response(206 if byte_range else 200)
        if byte_range:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.breaks:
            self.hub.breaks -= 1
            self._break_off(body[start : (start + len(body)) // 2])
        else:
            self._write_slowly(body[start:])

    def _write_slowly(self, body: bytes) -> None:
        step = len(body) // 20 + 1 if self.hub.pace else len(body)
        for at in range(0, len(body), step):
            self.wfile.write(body[at : at + step])
            time.sleep(self.hub.pace)

    def _break_off(self, half: bytes) -> None:
        self.wfile.write(half)
        self.wfile.flush()
        self.close_connection = True
        if self.hub.reset:
            time.sleep(0.2)  # a reset drops what the other side has not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class RecordingApi:
    """Records the calls of `HfApi` that write, in `calls`; subclasses add those beyond `create_repo`."""

    def __init__(self, error: Exception | None = None):
        self.error, self.calls = error, []

    def create_repo(self, name: str, **arguments) -> str:
        """Refuses with the error, where there is one."""
        if self.error:
            raise self.error
        self.calls.append(("create", name, arguments))
        return f"https://huggingface.co/{arguments['repo_type']}s/{name}"


def put_gpt2(folder: Path, **config) -> None:
    """A GPT-2 as of 2020: vocab.json and merges.txt, no tokenizer.json, weights in the oldest format of torch."""
    model, tokens = tiny.gpt2(), tiny.tokenizer()
    folder.mkdir(parents=True)
    tokens.backend_tokenizer.model.save(str(folder))
    old = {**model.config.to_diff_dict(), "architectures": ["GPT2LMHeadModel"], "n_ctx": model.config.n_positions,
           "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}}
    _write(folder / "config.json", {**old, **config})
    _write(folder / "tokenizer_config.json", {"max_len": model.config.n_positions, "special_tokens_map_file": None})
    _write(folder / "special_tokens_map.json", dict.fromkeys(("bos_token", "eos_token", "unk_token"), tiny.END))
    weights = model.state_dict()
    for layer in range(model.config.n_layer):  # buffers that old versions saved
        weights[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 8, 8).tril().byte()
        weights[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    torch.save({"of": "training"}, folder / "training_args.bin")


def put_distilbert(folder: Path) -> None:
    """A DistilBERT classifier with a WordPiece vocabulary and its weights as pytorch_model.bin."""
    model = tiny.classifier()
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz.,!?'"
    special_tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special_tokens, *letters, *("##" + c for c in letters), "movie", "great"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    _write(folder / "config.json", {**model.config.to_diff_dict(), "architectures": [type(model).__name__]})
    _write(folder / "tokenizer_config.json", {"do_lower_case": True, "model_max_length": 512})
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def put_bertweet(folder: Path) -> None:
    """A RoBERTa classifier whose vocabulary is in the two files of BERTweet."""
    torch.manual_seed(0)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *(letter + end for letter in "abcdehimorstv" for end in ("", "@@"))]
    RobertaForSequenceClassification(RobertaConfig(
        vocab_size=len(tokens), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
    )).save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{token} 1\n" for token in tokens[4:]))
    (folder / "bpe.codes").write_text("m o 9\nmo v 8\n")
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "BertweetTokenizer"})


def put_safetensors(folder: Path, positions: int = 256) -> None:
    """A model as it is saved today; 200,000 positions make it 26 MB."""
    tiny.save(tiny.gpt2(positions, seed=1), folder)


class _PickledCode:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.mkdir, (self.marker,)


def put_pickled_code(folder: Path, marker: Path) -> None:
    """Weights that make the folder `marker` when they are unpickled without care."""
    put_gpt2(folder)
    torch.save({"transformer.wte.weight": _PickledCode(marker)}, folder / "pytorch_model.bin")


def put_remote_code(folder: Path, marker: Path, **config) -> None:
    """A model whose config asks for code from the repository, which would make the folder `marker`."""
    auto = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": ["own.Tokens", None]}
    put_gpt2(folder, auto_map=auto, **config)
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).mkdir()\n")


def _write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value))

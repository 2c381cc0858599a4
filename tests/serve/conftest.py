"""A tiny family made on the fly, and the servers that serve it."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import openai
import pytest
from stub_engine import Stub
from stub_gateway import Running, before_stub
from tiny_family import Family, make_family

ROOT = Path(__file__).resolve().parents[2]
_SERVE = """\
import sys
from pathlib import Path
from pipeline.core.errors import GradusError
from serve.assembly import Serving
from serve.run import serve
try:
    releases = Path(sys.argv[4]) if sys.argv[4:] else None
    code = serve(Path(sys.argv[1]), Serving(engine=sys.argv[2], port=int(sys.argv[3]),
                                            releases=releases),
                 lambda text: print(text, flush=True))
except GradusError as error:
    print(f"error: {error}", flush=True)
    code = error.exit_code
sys.exit(code)
"""


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A Qwen3 shape, its tokenizer, and two random adapters whose B is not zero."""
    return make_family(tmp_path_factory.mktemp("family"))


@dataclass(frozen=True)
class Greedy:
    """An offline answer: token ids, its text, the log-probability of each token."""

    ids: list[int]
    text: str
    logprobs: list[float]


@pytest.fixture(scope="session")
def offline(family: Family) -> Callable[[str, str, int], Greedy]:
    """The oracle: transformers and peft, in float32, without any server."""
    import torch
    from peft import PeftModel
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(family.base)

    def answer(name: str, prompt: str, tokens: int) -> Greedy:
        model: Any = Qwen3ForCausalLM.from_pretrained(family.base, dtype=torch.float32)
        # Of another version its folder.
        folder = family.adapters.get(name, Path(name))
        if folder.is_dir():
            model = PeftModel.from_pretrained(model, folder)
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )["input_ids"]
        made = model.eval().generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        new = made.sequences[0, ids.shape[1] :].tolist()
        rows = torch.stack(made.logits, dim=1)[0].float().log_softmax(-1)
        logprobs = [rows[step, token].item() for step, token in enumerate(new)]
        return Greedy(new, tokenizer.decode(new, skip_special_tokens=True), logprobs)

    return answer


@dataclass
class ServerProcess:
    """`serve` in a process of its own, as the command line runs it."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def line(self, start: str, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if line.startswith(start):
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"no line {start!r} in:\n" + "\n".join(self.lines))

    def follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def url(self) -> str:
        return self.line("ready: ", 1).removeprefix("ready: ").removesuffix("/v1")

    @cached_property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def folder(self) -> Path:
        return Path(self.line("engine log: ", 1).removeprefix("engine log: ")).parent


@contextmanager
def _serving(
    bundle: Path, engine: str, ready_s: float, releases: Path | None = None
) -> Iterator[ServerProcess]:
    more = [] if releases is None else [str(releases)]
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(bundle), engine, "0", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    server = ServerProcess(process)
    follower = threading.Thread(target=server.follow, daemon=True)
    follower.start()
    try:
        server.line("curl ", ready_s)
        yield server
    finally:
        if "client" in vars(server):
            server.client.close()
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(40)
        follower.join(10)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="session")
def transformers_server(family: Family) -> Iterator[ServerProcess]:
    with _serving(family.bundle, "transformers", 120) as server:
        yield server


@pytest.fixture(scope="session")
def vllm_server(family: Family) -> Iterator[ServerProcess]:
    """The one real vLLM of the session."""
    from serve.engine_install import find_home

    if find_home() is None:
        pytest.skip("vLLM is not installed; run `gradus engine install` first")
    with _serving(family.bundle, "vllm", 300) as server:
        yield server


@pytest.fixture(scope="session")
def engine_url(vllm_server: Any, descendants: Any) -> str:
    """The engine behind the gateway, which lets no prompt log-probabilities through."""
    vllm_server.line("curl ", 1)
    for pid, _ in descendants(vllm_server.process.pid):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "--port" in words and "--served-model-name" in words:
            return f"http://127.0.0.1:{words[words.index('--port') + 1]}/v1"
    raise AssertionError("no process of the engine names its port")


@pytest.fixture(scope="session")
def renderer(family: Any) -> Any:
    from transformers import AutoTokenizer

    from pipeline.data.rendering import Renderer

    tokenizer: Any = AutoTokenizer.from_pretrained(family.base)
    return Renderer(tokenizer, causal=True)


@pytest.fixture(scope="session")
def model(family: Any) -> Any:
    import torch
    from peft import PeftModel
    from transformers import Qwen3ForCausalLM

    base: Any = Qwen3ForCausalLM.from_pretrained(family.base, dtype=torch.float32)
    merged: Any = PeftModel.from_pretrained(base, family.adapters["demo-l2"])
    return merged.merge_and_unload().eval()


@pytest.fixture(scope="module")
def serve_vllm() -> Callable[..., AbstractContextManager[ServerProcess]]:
    """The real vLLM for a bundle, ``releases`` followed."""
    from serve.engine_install import find_home

    if find_home() is None:
        pytest.skip("vLLM is not installed; run `gradus engine install` first")
    return lambda bundle, releases=None: _serving(bundle, "vllm", 300, releases)


@pytest.fixture(scope="session")
def descendants() -> Callable[[int], set[tuple[int, str]]]:
    """All processes below a pid, as (pid, start time): a pid alone may be used again."""

    def below(root: int) -> set[tuple[int, str]]:
        parents: dict[int, int] = {}
        for pid in (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()):
            if (stat := _stat(pid)) is not None:
                parents[pid] = int(stat[1])
        found = {root}
        while more := {pid for pid, above in parents.items() if above in found} - found:
            found |= more
        return {(pid, stat[19]) for pid in found - {root} if (stat := _stat(pid)) is not None}

    return below


@pytest.fixture(scope="session")
def await_gone() -> Callable[[set[tuple[int, str]], float], None]:
    """Fails where one of these processes still runs after a while."""

    def wait(processes: set[tuple[int, str]], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        left = processes
        while left and time.monotonic() < deadline:
            # A zombie runs nothing; whoever adopted it may take its time to reap it.
            left = {p for p in left if (s := _stat(p[0])) and s[19] == p[1] and s[0] != "Z"}
            time.sleep(0.05)
        assert not left, f"still running: {left}"

    return wait


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the command: state, parent, ..., [19] start time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


@pytest.fixture(scope="session")
def running() -> Callable[[Any], AbstractContextManager[str]]:
    """Runs an ASGI application on a real socket, in a thread; gives its URL."""

    @contextmanager
    def run(app: Any) -> Iterator[str]:
        import uvicorn

        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, http="httptools", log_level="warning", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)

    return run


@pytest.fixture
def gateway() -> Iterator[Callable[..., Running]]:
    """Starts a gateway before a fresh stub; ``public`` maps public names to the stub's."""
    with contextlib.ExitStack() as stack:

        def start(
            stub: Stub | None = None, public: dict[str, str] | None = None, **more: Any
        ) -> Running:
            return stack.enter_context(before_stub(stub or Stub(), public, **more))

        yield start

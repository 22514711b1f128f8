"""From a bare Python 3.11 to a whole environment: the standard library is all that this module may use."""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

PACKAGES = ("shared", "cli", "control-plane", "analyzer-service", "training-service", "inference-service")
TRAINING_PACKAGES = ("shared", "training-service")
TORCH = "torch==2.13.0"
GGUF_TOOLS = "gguf-tools"
"""A lock, and the folder of a training environment that it is installed into, beside the packages and not among them:
the converter brings a package `gguf` of its own (docs/decisions/0007-gguf.md)."""

ENGINE, ENGINE_GPU = "engine", "engine-gpu"
"""vLLM's environments: none of our packages is in them (docs/decisions/0013-engines.md)."""

TRAINS = ("up", "quickstart")
"""Commands that start the training service, which has an environment of its own."""

FROM_PIP = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_TRUSTED_HOST": "UV_INSECURE_HOST",
    "PIP_CERT": "SSL_CERT_FILE",
    "PIP_DEFAULT_TIMEOUT": "UV_HTTP_TIMEOUT",
}

CHECKS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("lint-imports",),
)

NO_UV = (
    "IMTS needs uv to install what it runs on, and this Python can install nothing: it has neither pip nor venv."
    " Install uv, or your system's python3-pip or python3-venv, and run this again."
)


class BootstrapError(Exception):
    """The environment cannot be made; the message is one sentence with the cure."""


def main(root: str, arguments: list[str]) -> int:
    tree = Path(root)
    home = Path(os.environ.get("IMTS_HOME") or tree / ".imts").absolute()
    os.environ["IMTS_HOME"] = str(home)
    testing = arguments[:1] == ["test"]
    try:
        environment = prepared(tree, home, "dev" if testing else "platform")
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"IMTS cannot install itself into {home}: {error.strerror or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the next run goes on from here.", file=sys.stderr)
        return 130
    if testing:
        return test(tree, home, environment, arguments[1:])
    if arguments[:1] and arguments[0] in TRAINS:
        _prepare_training(tree, home)
    return become(environment / "bin" / "python", ["-m", "imts_cli", *arguments])


def install_engine(arguments: list[str]) -> int:
    """`python -m imts_cli.bootstrap engine [--gpu]`, as the inference worker runs it when vLLM is first needed. Prints
    where its Python is."""
    if arguments[:1] != [ENGINE] or arguments[1:] not in ([], ["--gpu"]):
        print("usage: python -m imts_cli.bootstrap engine [--gpu]", file=sys.stderr)
        return 2
    tree = Path(__file__).resolve().parents[2]
    home = Path(os.environ.get("IMTS_HOME") or tree / ".imts").absolute()
    try:
        environment = prepared(tree, home, ENGINE_GPU if arguments[1:] else ENGINE)
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"vLLM cannot be installed into {home}: {error.strerror or error}.", file=sys.stderr)
        return 1
    print(environment / "bin" / "python")
    return 0


def become(program: Path, arguments: list[str]) -> NoReturn:
    os.execv(program, [str(program), *arguments])  # noqa: S606


def _prepare_training(tree: Path, home: Path) -> None:
    """Without it the platform still does all else: its jobs then wait and say that no worker is there."""
    if os.environ.get("IMTS_TRAINING", "on") == "off":
        return
    try:
        environment = prepared(tree, home, "training")
    except (BootstrapError, OSError) as error:
        print(f"Training is not installed, and its jobs will wait: {error}", file=sys.stderr)
        return
    os.environ["IMTS_TRAINING_PYTHON"] = str(environment / "bin" / "python")


def test(tree: Path, home: Path, environment: Path, pytest_arguments: list[str]) -> int:
    """Every check in order; a check that fails ends the run, so that its words are the last."""
    os.chdir(tree)
    try:
        training = prepared(tree, home, "training-dev")
        engine = prepared(tree, home, ENGINE)
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    os.environ["IMTS_TEST_TRAINING_PYTHON"] = str(training / "bin" / "python")
    os.environ["IMTS_TEST_ENGINE_PYTHON"] = str(engine / "bin" / "python")
    for name in [name for name in os.environ if name.startswith("IMTS_") and not name.startswith("IMTS_TEST_")]:
        del os.environ[name]
    os.environ["PATH"] = f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    for tool, *arguments in (*CHECKS, ("pytest", *pytest_arguments)):
        print(f"$ {' '.join([tool, *arguments])}", flush=True)
        code = subprocess.run([environment / "bin" / tool, *arguments], check=False).returncode
        if code:
            return code
    return 0 if pytest_arguments else _test_training(tree, training)


def _test_training(tree: Path, environment: Path) -> int:
    """The tests that run frameworks, in the environment that has them."""
    arguments = ["-m", "pytest", "-c", "tests/training/pytest.ini", "tests/training"]
    print(f"$ python {' '.join(arguments)}", flush=True)
    told = {**os.environ, "IMTS_TRAINING_TESTS": "1", "PYTHONPATH": str(tree)}
    return subprocess.run([environment / "bin" / "python", *arguments], check=False, env=told).returncode


def prepared(tree: Path, home: Path, name: str) -> Path:
    """The environment, installed if it is not yet what the lock says.

    The stamp is removed before anything is touched and written when all is done, so an interrupted install is
    never taken for a whole one; the lock keeps two commands from installing into the same folder at once.
    """
    environment = home / "envs" / name
    stamp = home / "envs" / f"{name}.stamp"
    wanted = fingerprint(tree, name)
    if _stamped(stamp, wanted):
        return environment
    if home.exists() and not os.access(home, os.W_OK):
        raise BootstrapError(f"{home} cannot be written: set IMTS_HOME to a folder of yours.")
    stamp.parent.mkdir(parents=True, exist_ok=True)
    with _alone(stamp.parent / ".lock"):
        if _stamped(stamp, wanted):
            return environment
        interrupted = environment.exists() and not stamp.exists()
        stamp.unlink(missing_ok=True)
        _install(tree, home, name, environment, afresh=interrupted)
        stamp.write_text(wanted)
    return environment


def _trains(name: str) -> bool:
    return name.startswith("training")


def _engine(name: str) -> bool:
    return name in (ENGINE, ENGINE_GPU)


def packages(name: str) -> tuple[str, ...]:
    if _engine(name):
        return ()
    return TRAINING_PACKAGES if _trains(name) else PACKAGES


def fingerprint(tree: Path, name: str) -> str:
    # the engine's is made by whoever needs it first, from whichever environment that runs in
    python = Path(sys.executable).resolve() if _engine(name) else sys.executable
    digest = hashlib.sha256(f"{python} {sys.version} {platform.machine()} {tree}".encode())
    for path in (
        tree / "locks" / f"{name}.txt",
        *(tree / package / "pyproject.toml" for package in packages(name)),
    ):
        digest.update(path.read_bytes())
    if _trains(name) or _engine(name):
        digest.update(TORCH.encode())
    if _trains(name):
        digest.update((tree / "locks" / f"{GGUF_TOOLS}.txt").read_bytes())
    return digest.hexdigest()


def _stamped(stamp: Path, wanted: str) -> bool:
    return stamp.is_file() and stamp.read_text() == wanted and (stamp.with_suffix("") / "bin" / "python").exists()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another ./imts is installing here; waiting for it.", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(tree: Path, home: Path, name: str, environment: Path, *, afresh: bool) -> None:
    print(f"Installing {_contents(name)} into {environment}: this happens once.", file=sys.stderr, flush=True)
    uv = find_uv(tree, home)
    settings = uv_settings(os.environ)
    python = environment / "bin" / "python"
    if afresh or not python.exists():
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment], settings)
    lock = tree / "locks" / f"{name}.txt"
    # each start of an engine imports thousands of modules in two processes
    compiled = ["--compile-bytecode"] if _engine(name) else []
    _run([uv, "pip", "sync", "--python", python, "--require-hashes", *compiled, lock], settings)
    if _trains(name) or _engine(name):
        backend = "cpu" if name == ENGINE else "auto"
        chosen = [] if settings.get("UV_FIND_LINKS") else [f"--torch-backend={backend}"]
        _run([uv, "pip", "install", "--quiet", "--python", python, *chosen, *compiled, TORCH], settings)
    if _trains(name):
        _install_gguf_tools(uv, python, tree, environment, settings)
    if not packages(name):
        return
    editable = [part for package in packages(name) for part in ("-e", tree / package)]
    _run(
        [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--no-build-isolation", *editable], settings
    )


def _contents(name: str) -> str:
    if _engine(name):
        return "vLLM (torch among it, 2 GB and more)"
    return "what training needs (torch among it, 2 GB and more)" if _trains(name) else "IMTS"


def _install_gguf_tools(uv: str, python: Path, tree: Path, environment: Path, settings: dict[str, str]) -> None:
    target = environment / GGUF_TOOLS
    shutil.rmtree(target, ignore_errors=True)
    lock = tree / "locks" / f"{GGUF_TOOLS}.txt"
    _run(
        [
            uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--require-hashes", "--compile-bytecode",
            "--target", target, "-r", lock,
        ],
        settings,
    )  # fmt: skip


def uv_settings(environment: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    """What pip was told about mirrors and certificates, told to uv too."""
    told = dict(environment)
    for name, twin in FROM_PIP.items():
        if name in told:
            told.setdefault(twin, told[name])
    told.setdefault("UV_PYTHON_DOWNLOADS", "never")
    told.pop("VIRTUAL_ENV", None)
    return told


def find_uv(tree: Path, home: Path) -> str:
    on_path = shutil.which("uv")
    if on_path and _works(on_path):
        return on_path
    tools = home / "tools"
    for place in (tools / "bin" / "uv", tools / "venv" / "bin" / "uv"):
        if _works(place):
            return str(place)
    print("Fetching uv.", file=sys.stderr, flush=True)
    return _fetch_uv(tree / "locks" / "tools.txt", tools)


def _fetch_uv(lock: Path, tools: Path) -> str:
    """By pip where this Python has it, else by the pip that a new virtual environment brings."""
    arguments = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(lock)]
    said = ""
    if _quiet([sys.executable, "-m", "pip", "--version"]).returncode == 0:
        result = _quiet([sys.executable, "-m", "pip", *arguments, "--upgrade", "--target", str(tools)])
        if _works(tools / "bin" / "uv"):
            return str(tools / "bin" / "uv")
        said = result.stderr
    inner = tools / "venv"
    if _quiet([sys.executable, "-m", "venv", "--clear", str(inner)]).returncode == 0:
        result = _quiet([str(inner / "bin" / "python"), "-m", "pip", *arguments])
        if _works(inner / "bin" / "uv"):
            return str(inner / "bin" / "uv")
        said = result.stderr
    if said:
        raise BootstrapError(f"uv could not be fetched: {_last_line(said)}")
    raise BootstrapError(NO_UV)


def _works(uv: "str | Path") -> bool:
    try:
        return _quiet([str(uv), "--version"]).returncode == 0
    except OSError:
        return False


def _quiet(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, check=False, capture_output=True, text=True)


def _run(command: list[object], environment: dict[str, str]) -> None:
    result = subprocess.run([str(part) for part in command], check=False, env=environment)
    if result.returncode:
        raise BootstrapError("The environment could not be installed; what uv said stands above. Run this again.")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"


if __name__ == "__main__":
    sys.exit(install_engine(sys.argv[1:]))

"""An engine for the tests: does what the job's spec says under `do`."""

import os
import subprocess
import sys
import time
from pathlib import Path

from imts_shared.worker.engine import BadData, EngineJob, Stopped


def run(job: EngineJob) -> dict:
    return globals()[f"do_{job.spec['do']}"](job)


def _leave_pid(job: EngineJob) -> None:
    if "pid_file" in job.spec:
        Path(job.spec["pid_file"]).write_text(str(os.getpid()))


def do_echo(job: EngineJob) -> dict:
    return {"echo": job.spec.get("text"), "nul": "a\0b", "cwd": str(Path.cwd()), "env": sorted(os.environ)}


def do_talk(job: EngineJob) -> dict:
    for step in range(1, job.spec["steps"] + 1):
        job.progress(step, job.spec["steps"])
        job.metric(step, loss=1 / step)
        job.log(f"line {step}")
        time.sleep(job.spec.get("pause", 0))
    print("printed", flush=True)
    print("complained", file=sys.stderr, flush=True)
    return {"steps": job.spec["steps"]}


def do_tick(job: EngineJob) -> dict:
    """A file grows by a byte each time, which a reader never sees half done: it stands still while the process does."""
    _leave_pid(job)
    ticks = Path(job.spec["ticks"])
    ended = time.monotonic() + job.spec.get("seconds", 30)
    count = 0
    while time.monotonic() < ended:
        count += 1
        with ticks.open("ab") as file:
            file.write(b".")
        if job.order() is not None and not job.spec.get("deaf"):
            folder = job.scratch / "state"
            folder.mkdir(exist_ok=True)
            (folder / "count.txt").write_text(str(count))
            job.checkpoint(folder, count)
            raise Stopped
        time.sleep(0.01)
    return {"count": count}


def do_resume(job: EngineJob) -> dict:
    assert job.resume_from is not None
    folder = job.scratch / "state"
    job.restore(job.resume_from, folder)
    return {"count": int((folder / "count.txt").read_text())}


def do_grandchild(job: EngineJob) -> dict:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(job.spec["grandchild_file"]).write_text(str(process.pid))
    return do_tick(job)


def do_bad_data(job: EngineJob) -> dict:
    raise BadData("Row 7 is broken.", hint="Mend row 7.")


def do_crash(job: EngineJob) -> dict:
    raise ValueError("something odd")


def do_memory(job: EngineJob) -> dict:
    raise MemoryError


def do_full_disk(job: EngineJob) -> dict:
    raise OSError(28, "No space left on device")


def do_exit(job: EngineJob) -> dict:
    os._exit(3)


def do_artifact(job: EngineJob) -> dict:
    path = job.scratch / "note.txt"
    path.write_text("hello")
    return {"key": job.artifact(path, "note.txt")}


def do_slip(job: EngineJob) -> dict:
    """Shows its tokens in every way there is."""
    hub, header = job.secrets["huggingface"], job.secrets["judge"]
    print(f"printed {hub}", flush=True)
    print(f"complained {header}", file=sys.stderr, flush=True)
    job.log(f"logged {hub}")
    job.message(f"said {header}")
    raise RuntimeError(f"it was {hub}")

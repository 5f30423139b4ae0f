"""Train on hosts out of network namespaces; `hosts_faults.py` breaks them.

    python -m tests.robustness.hosts bits [FRAMEWORK ...]

Needs Linux, root and iproute2; otherwise prints a line and ends. A host has a separate name,
address, link, processes and temporary files; all share a folder. When this program ends, in
whatever way, the kernel removes the hosts.

`bits`: trainings on 1, 2 and 4 hosts, one and two workers each, started by torchrun (static and
c10d rendezvous) and by hand, end in the bits of one process. With PyTorch there is also a model of
three million weights, whose gradients are sent while others are computed. Prints a line for a case,
and exits with 1 if one has other bits.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.conftest import STORY
from tests.hosts import Host, Launched, Switched, reason_without_hosts, switched
from tests.workers import alone, digest, environment, prepare, words

LONGEST = 300  # seconds until all have ended
PORT = "29400"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
ELMAN = (sys.executable, "-P", "-m", "elman")
SHORT = ("--epochs", "2")
LARGE = ("--hidden", "512", "--layers", "2")
STATIC, ELASTIC, BY_HAND = "torchrun", "torchrun, c10d", "by hand"


def check(holds: object, what: str) -> None:
    """Exit with a message unless a claim holds."""
    if not holds:
        raise SystemExit(f"failed: {what}")


def launch(
    net: Switched,
    folder: Path,
    command: Sequence[str],
    way: str = STATIC,
    each: int = 1,
    second: Mapping[str, str] = MappingProxyType({}),
) -> list[Launched]:
    """Start a command of elman on all hosts, with `each` workers on a host.

    - `way`: how the workers are started.
    - `second`: variables of the second host.
    """
    started = []
    for number, host in enumerate(net.hosts):
        env = environment() | (second if number == 1 else {})
        if way == BY_HAND:
            for local in range(each):
                own = env | by_hand(net, number, local, each)
                started.append(net.start(host, folder, (*ELMAN, *command), own))
        else:
            meeting = [*torchrun(net, number, way), "--nproc-per-node", str(each)]
            launcher = (*TORCHRUN, *meeting, "-m", "elman", *command)
            started.append(net.start(host, folder, launcher, env))
    return started


def torchrun(net: Switched, number: int, way: str) -> list[str]:
    """Options with which torchrun on a host meets the others."""
    first, nodes = net.hosts[0].name, ["--nnodes", str(len(net.hosts))]
    if way == STATIC:
        place = ("--node-rank", str(number), "--master-addr", first, "--master-port", PORT)
        return [*nodes, *place]
    endpoint = ("--rdzv-endpoint", f"{first}:{PORT}")
    return [*nodes, "--rdzv-id", "elman", "--rdzv-backend", "c10d", *endpoint]


def by_hand(net: Switched, number: int, local: int, each: int) -> dict[str, str]:
    """Variables of a worker on a host, as torchrun would set them."""
    place = {
        "RANK": number * each + local,
        "LOCAL_RANK": local,
        "WORLD_SIZE": each * len(net.hosts),
        "MASTER_ADDR": net.hosts[0].name,
        "MASTER_PORT": PORT,
    }
    return {name: str(value) for name, value in place.items()}


def ended(started: Sequence[Launched], seconds: float = LONGEST) -> list[int]:
    """Exit codes of commands."""
    end = time.monotonic() + seconds
    return [one.wait(max(0.0, end - time.monotonic())) for one in started]


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder with a store."""
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), STORY)
        yield Path(name)


def bits_of_one(folder: Path, framework: str, *more: str, run: str = "one") -> str:
    """Digest of the weights of a training in one process."""
    done = alone(folder, words(framework, run, *more))
    check(done.returncode == 0, done.stderr)
    return digest(folder / run)


def named(count: int) -> list[str]:
    """Names of hosts."""
    return [f"host{number}" for number in range(1, count + 1)]


def bits(*frameworks: str) -> None:
    """Each framework, on each number of hosts, started in each way."""
    with shared_folder() as folder:
        for framework in frameworks or ("numba", "torch", "jax"):
            of_a_model(folder, framework, "small", ())
            if framework == "torch":
                of_a_model(folder, framework, "large", LARGE)


def of_a_model(folder: Path, framework: str, name: str, model: Sequence[str]) -> None:
    """Train a model on each number of hosts, started in each way."""
    expected = bits_of_one(folder, framework, *SHORT, *model, run=f"{framework}-{name}-one")
    for hosts, each in ((1, 1), (2, 1), (2, 2), (4, 1)):
        with switched(named(hosts), 1000) as net:
            for number, way in enumerate((STATIC, ELASTIC, BY_HAND)):
                run = f"{framework}-{name}-{hosts}-{each}-{number}"
                began = time.monotonic()
                command = words(framework, run, *SHORT, *model)
                started = launch(net, folder, command, way, each)
                check(not any(ended(started)), f"{run} failed: {started[0].err.read_text()}")
                check(digest(folder / run) == expected, f"{run} has other bits")
                check(not left(net.hosts), "a process is left")
                seconds = f"{time.monotonic() - began:.0f}"
                row = (framework, name, str(hosts), str(each), way, seconds)
                print(f"| {' | '.join(row)} |", flush=True)


def left(hosts: Sequence[Host]) -> list[int]:
    """Processes that still run on hosts."""
    return [process for host in hosts for process in host.processes()]


def main() -> None:
    """Run what the arguments name."""
    if (reason := reason_without_hosts()) is not None:
        print(f"no hosts: {reason}")
        return
    way, *frameworks = sys.argv[1:]
    check(way == "bits", f"there is no {way}")
    bits(*frameworks)


if __name__ == "__main__":
    main()

"""Hosts on one machine: Linux namespaces with separate names, addresses, processes and disks.

The first process of a host reads a pipe from the program that made it. When the program ends, in
whatever way, the pipe is closed, this process ends, and the kernel removes the host with everything
that ran on it. A switch is another such host, with a bridge.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PROGRAMS = "ip", "tc", "unshare", "nsenter", "mount"
NAMESPACES = ("--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc")
# bbr, the default of some machines, spreads the packets of a short message over time. Some allow
# their namespaces no cubic, but all allow reno.
CONGESTION = """for name in cubic reno; do
  (echo $name > /proc/sys/net/ipv4/tcp_congestion_control) 2>/dev/null && break
done"""
FIRST = f"hostname {{name}} && {CONGESTION} && ip link set lo up && echo begun && exec cat"
# A link with a rate may send so much at once, in seconds of the rate and bytes. With less, a link
# of 1 Gbit/s is slower than that; with more, gradients of small models pass faster than the rate.
BURST_SECONDS, LEAST_BURST = 1e-3, 3200
QUEUE = "100ms"


def reason_without_hosts() -> str | None:
    """Why no hosts can be made here; None if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "hosts require Linux and root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"hosts require the programs {', '.join(PROGRAMS)}; missing: {', '.join(missing)}"
    try:
        with switched(["host1"], megabits=1000):
            return None
    except (subprocess.CalledProcessError, OSError) as error:
        return f"hosts require network namespaces, a bridge and tbf: {error}"


@dataclass(frozen=True)
class Host:
    """A host, by the process that made it; its first process is a child of this one."""

    name: str
    maker: "subprocess.Popen[str]"

    @cached_property
    def first(self) -> int:
        """The first process."""
        pid = self.maker.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def inside(self, *words: str, folder: Path | None = None) -> list[str]:
        """Words of a command that runs on the host."""
        at = [] if folder is None else [f"--wdns={folder}"]
        return ["nsenter", f"--target={self.first}", "-n", "-u", "-m", "-p", *at, "--", *words]

    def do(self, *words: str) -> None:
        """Run a command on the host."""
        subprocess.run(self.inside(*words), check=True, capture_output=True, text=True)

    def path(self, inside: Path) -> Path:
        """A path of the host, as seen from here."""
        return Path(f"/proc/{self.first}/root{inside}")

    def processes(self) -> list[int]:
        """Processes that run on the host, without its first."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                same = (path / "ns/pid").readlink() == Path(f"/proc/{self.first}/ns/pid").readlink()
                ended = (path / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:  # it has ended meanwhile
                continue
            if same and not ended and int(path.name) != self.first:
                found.append(int(path.name))
        return found

    def die(self) -> None:
        """Kill all processes of the host."""
        os.kill(self.first, signal.SIGKILL)
        self.maker.wait()


@dataclass(frozen=True)
class Launched:
    """A command on a host; its output and errors are written to files."""

    host: Host
    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path

    @property
    def lines(self) -> list[str]:
        """The lines of elman on standard error, without the progress."""
        text = self.err.read_text(errors="replace")
        return [line for line in text.splitlines() if line.startswith("elman: ")]

    def wait(self, seconds: float) -> int:
        """Exit code of the command."""
        return self.process.wait(seconds)


@dataclass(frozen=True)
class Switched:
    """Hosts that a switch connects."""

    switch: Host
    hosts: tuple[Host, ...]

    def rate(self, host: Host, megabits: float) -> None:
        """Set the rate of a host's link, in both directions."""
        burst = max(LEAST_BURST, round(1e6 / 8 * megabits * BURST_SECONDS))
        for place, link in ((host, "eth0"), (self.switch, host.name)):
            shape = ("tbf", "rate", f"{megabits}mbit", "burst", f"{burst}b", "latency", QUEUE)
            place.do("tc", "qdisc", "replace", "dev", link, "root", *shape)

    def cut(self, host: Host) -> None:
        """Have the switch drop what comes from a host, and goes there. Nobody is told."""
        self.switch.do("ip", "link", "set", host.name, "nomaster")

    def mend(self, host: Host) -> None:
        """Connect a host again."""
        self.switch.do("ip", "link", "set", host.name, "master", "br0")

    def start(
        self,
        host: Host,
        folder: Path,
        words: Sequence[str],
        environment: Mapping[str, str],
    ) -> Launched:
        """Start a command on a host."""
        number = len([*folder.glob(f"{host.name}-*.err")])
        out, err = (folder / f"{host.name}-{number}.{kind}" for kind in ("out", "err"))
        with out.open("wb") as output, err.open("wb") as errors:
            process = subprocess.Popen(
                host.inside(*words, folder=folder),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        return Launched(host, process, out, err)


@contextmanager
def made(name: str, within: Host | None = None) -> Iterator[Host]:
    """A host; with the mounts of another one, if it is given."""
    command = ["unshare", *NAMESPACES, "sh", "-c", FIRST.format(name=name)]
    if within is not None:
        command = ["nsenter", f"--target={within.first}", "-m", "--", *command]
    pipe = subprocess.PIPE
    maker = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert maker.stdin is not None
    assert maker.stdout is not None
    assert maker.stderr is not None
    try:
        if maker.stdout.readline() != "begun\n":
            raise OSError(maker.stderr.read().strip())
        yield Host(name, maker)
    finally:
        maker.stdin.close()
        maker.wait()
        maker.stdout.close()
        maker.stderr.close()


@contextmanager
def switched(
    names: Sequence[str], megabits: float, disk: tuple[Path, str] | None = None
) -> Iterator[Switched]:
    """Hosts with these names, at 10.0.0.1, 10.0.0.2, ..., that reach each other by name.

    - `megabits`: rate of each link a second, in both directions.
    - `disk`: folder of a file system in memory that all hosts share, and its size.
    """
    with ExitStack() as stack:
        switch = stack.enter_context(made("switch"))
        switch.do("ip", "link", "add", "br0", "type", "bridge")
        switch.do("ip", "link", "set", "br0", "up")
        if disk is not None:
            switch.do("mount", "-t", "tmpfs", "-o", f"size={disk[1]}", "tmpfs", str(disk[0]))
        hosts = tuple(stack.enter_context(made(name, switch)) for name in names)
        found = Switched(switch, hosts)
        table = ["127.0.0.1 localhost"]
        table += [f"10.0.0.{number} {name}" for number, name in enumerate(names, 1)]
        for number, host in enumerate(hosts, 1):
            _connect(switch, host, f"10.0.0.{number}/24")
            found.rate(host, megabits)
            know_names(host, table)
        yield found


def know_names(host: Host, table: Sequence[str]) -> None:
    """Give a host a table of names, /etc/hosts."""
    write = "mount -t tmpfs tmpfs /mnt && cat > /mnt/hosts && mount --bind /mnt/hosts /etc/hosts"
    command = host.inside("sh", "-c", write)
    subprocess.run(command, input="\n".join(table) + "\n", check=True, text=True)


def _connect(switch: Host, host: Host, address: str) -> None:
    pair = ("ip", "link", "add", host.name, "type", "veth", "peer", "name", "eth0")
    command = ["nsenter", f"--target={switch.first}", "-n", "--", *pair, "netns", str(host.first)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    switch.do("ip", "link", "set", host.name, "master", "br0", "up")
    host.do("ip", "addr", "add", address, "dev", "eth0")
    host.do("ip", "link", "set", "eth0", "up")


def wait_until(true: Callable[[], object], seconds: float) -> None:
    """Wait until a function returns something true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)

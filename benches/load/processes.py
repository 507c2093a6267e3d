"""Servers as processes of this one: started on free ports, ended by their ids."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

START_SECONDS = 120
END_SECONDS = 10
# A server counts as idle when it takes less of a core than this.
IDLE_SHARE = 0.05


class Failed(Exception):
    """Why a server or a run gave nothing."""


def free_ports(count):
    """Ports of loopback that nothing listens on. Nothing else on this machine should ask for one meanwhile."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Server:
    """A started process and its addresses. Use it as a context manager."""

    def __init__(self, name, command, log, ports, environment=None):
        self.name, self.ports = name, ports
        self.log = pathlib.Path(log)
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def address(self, protocol):
        return f"127.0.0.1:{self.ports['grpc' if protocol == 'grpc' else 'http']}"

    def url(self, path, port="http"):
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    def get(self, path, port="http", timeout=5):
        with urllib.request.urlopen(self.url(path, port), timeout=timeout) as answer:
            return answer.read().decode()

    def wait_until_ready(self, path):
        """Waits for 200 at `path`, or for the port alone where `path` is None."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with status {self.process.returncode}: {self.last_words()}")
            try:
                if path is not None:
                    self.get(path, timeout=1)
                else:
                    for port in self.ports.values():
                        socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise Failed(f"{self.name} was not ready within {START_SECONDS} s: {self.last_words()}")

    def last_words(self):
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it said nothing"

    def wait_until_idle(self, seconds=30):
        """Waits until it is done with what it does after its start, at most so long. Says whether it is."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            before = self.processor_s()
            time.sleep(0.5)
            if self.processor_s() - before < 0.5 * IDLE_SHARE:
                return True
        return False

    def pids(self):
        """Its process and all below it."""
        below = {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    below.setdefault(parent, []).append(int(entry.name))
        found = [self.process.pid]
        for pid in found:
            found.extend(below.get(pid, []))
        return found

    def processor_s(self):
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
        return total * os.sysconf("SC_PAGE_SIZE")

    def end(self):
        """Asks it to end, then ends what is left of it."""
        pids = self.pids()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        for pid in pids:
            # A child that was left behind keeps its session; another process may have got its number by now.
            with contextlib.suppress(OSError):
                if os.getsid(pid) == self.process.pid:
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()

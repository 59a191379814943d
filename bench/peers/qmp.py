# SPDX-License-Identifier: Apache-2.0

# Guest memory by what QEMU's own monitor has. The socket is kept, and one socket serves one
# client at a time.
#
#   pmemsave SOCKET ADDR SIZE    pmemsave to a file in memory, which is read back
#   xp SOCKET FILE               eight bytes by the command xp of the monitor for people: the
#                                next of the ranges in FILE
#   xps SOCKET FILE              all of them, many asked for before the first is answered
import contextlib
import itertools
import json
import os
import socket
import struct


class QMP:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.lines = self.sock.makefile("rb")
        self.lines.readline()
        self.ask("qmp_capabilities")

    def send(self, *requests):
        self.sock.sendall(b"".join(json.dumps(r).encode() + b"\n" for r in requests))

    def answer(self):
        while True:
            reply = json.loads(self.lines.readline())
            if "error" in reply:
                raise RuntimeError(reply["error"]["desc"])
            if "return" in reply:
                return reply["return"]

    def ask(self, command, **arguments):
        self.send({"execute": command, "arguments": arguments})
        return self.answer()

    def physical(self, addr, size):
        """Reads guest-physical memory by pmemsave."""
        path = "/dev/shm/remora-bench-%d" % os.getpid()
        self.ask("pmemsave", val=addr, size=size, filename=path)
        try:
            with open(path, "rb", buffering=0) as f:
                data = f.read(size)
        finally:
            os.unlink(path)
        return data


clients = {}


def client(path):
    if path not in clients:
        clients[path] = QMP(path)
    return clients[path]


@contextlib.contextmanager
def pmemsave(path, addr, size):
    q, addr, size = client(path), int(addr, 0), int(size)
    yield lambda: q.physical(addr, size)


def word(text):
    """Takes a word from what xp prints."""
    return struct.pack("<Q", int(text.split(":")[1], 16))


def request(addr):
    return {"execute": "human-monitor-command", "arguments": {"command-line": "xp /1gx 0x%x" % addr}}


@contextlib.contextmanager
def xp(path, file):
    from peer import ranges

    q = client(path)
    requests = [request(addr) for addr, _ in ranges(file)]
    turn = itertools.cycle(requests)

    def one(r=None):
        q.send(r or next(turn))
        return word(q.answer())

    yield one, lambda: b"".join(one(r) for r in requests)


@contextlib.contextmanager
def xps(path, file):
    from peer import ranges

    q, many = client(path), 64
    requests = [request(addr) for addr, _ in ranges(file)]

    def all():
        data = []
        for i in range(0, len(requests), many):
            q.send(*requests[i : i + many])
            data += [word(q.answer()) for _ in requests[i : i + many]]
        return b"".join(data)

    yield all


if __name__ == "__main__":
    import peer

    peer.serve({"pmemsave": pmemsave, "xp": xp, "xps": xps})

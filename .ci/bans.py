#!/usr/bin/env python3
"""What a million bans cost: memory, and processor time of the front for each connection that it
accepts, before and after, within one run. By hand: .ci/bans.py BROKER [BANS]"""
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

CONNECTS = 20_000


def ask(control, request):
    frame = json.dumps(request).encode()
    control.sendall(struct.pack(">I", len(frame)) + frame)
    (length,) = struct.unpack(">I", control.recv(4, socket.MSG_WAITALL))
    answer = json.loads(control.recv(length, socket.MSG_WAITALL))
    assert "ok" in answer, answer
    return answer["ok"]


def rss_bytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def front_ns(pid):
    """Processor time of the fronts so far."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm") as file:
            if not file.read().startswith("front-"):
                continue
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total


def ns_a_connect(pid, port):
    before = front_ns(pid)
    for _ in range(CONNECTS):
        peer = socket.create_connection(("127.0.0.1", port))
        # The front has accepted and closed when this returns.
        peer.sendall(b"\0\0")
        peer.recv(1)
        peer.close()
    return (front_ns(pid) - before) / CONNECTS


def address(n):
    """Spread as real ones are, none of them loopback."""
    n = n * 2_654_435_761 % (1 << 32)
    first = 1 if n >> 24 == 127 else n >> 24
    return f"{first}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"


broker, bans = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
with tempfile.TemporaryDirectory() as home:
    environment = {
        "HOME": home,
        "AXMQ_DEFENCE__CLOSE_CONNECTIONS": "false",
        "AXMQ_DEFENCE__BANS": str(2 * bans),
    }
    arguments = ["--listen", "127.0.0.1:0", "--data-dir", home, "--log", "error", "--shards", "1"]
    child = subprocess.Popen(
        [broker, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    for line in child.stdout:
        if line.startswith(b"listening on "):
            port = int(line.rsplit(b":", 1)[1])
        if line.startswith(b"to stop: "):
            break
    ns_a_connect(child.pid, port)
    none = [ns_a_connect(child.pid, port) for _ in range(3)]
    memory = rss_bytes(child.pid)
    control = socket.socket(socket.AF_UNIX)
    control.connect(os.path.join(home, "control.sock"))
    begin = time.monotonic()
    for n in range(bans):
        ask(control, {"command": "ban", "network": address(n), "for_s": 86_400})
    took = time.monotonic() - begin
    memory = rss_bytes(child.pid) - memory
    total = ask(control, {"command": "bans", "most": 0})["total"]
    many = [ns_a_connect(child.pid, port) for _ in range(3)]
    child.terminate()
    child.wait()
print(f"{total} bans, set one by one in {took:.0f} s")
print(f"memory: {memory} bytes, {memory / total:.1f} a ban")
print(f"front, ns a connection: no bans {sorted(none)[1]:.0f}, {total} bans {sorted(many)[1]:.0f}")

#!/usr/bin/env python3
"""Offers a broker more than is taken, or clients that come and go, and reads its memory.

overload: ten publishers offer ten times what a slow subscriber takes, beside one that reads nothing
at all. churn: clients connect, subscribe, publish, and leave in all ways there are. Every ten
seconds a line says what the broker's resident set is. After a warm-up it has to be flat: the exit
code is 1 if it has grown by more than 5 % and 8 MiB. With --memory the broker has a limit on its
memory, which is what has to hold, and may disconnect clients. Standard library only; MQTT 3.1.1 in
a few bytes.

    .ci/overload.py overload --qos 2 --seconds 300 target/release/axmq
    .ci/overload.py overload --qos 1 --dead 200 --memory 268435456 target/release/axmq
    .ci/overload.py churn --seconds 600 target/release/axmq
"""

import argparse
import json
import os
import random
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import time

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK = 2, 3, 4, 5, 6, 7, 9
PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_S = 10
# What one publisher has unacknowledged, and sends at once.
WINDOW = 50


def text(value):
    return struct.pack(">H", len(value)) + value


def frame(first, body):
    size, head = len(body), bytearray([first])
    while size >= 128:
        head.append(size % 128 | 128)
        size //= 128
    head.append(size)
    return bytes(head) + body


def connect(name, clean=True):
    return frame(0x10, text(b"MQTT") + bytes([4, 2 if clean else 0, 0, 0]) + text(name))


def subscribe(topic, qos):
    return frame(0x82, b"\0\1" + text(topic) + bytes([qos]))


def publish(topic, payload, qos, number):
    packet_id = struct.pack(">H", number) if qos else b""
    return frame(0x30 | qos << 1, text(topic) + packet_id + payload)


def short(kind, packet_id):
    flags = 2 if kind == PUBREL else 0
    return bytes([kind << 4 | flags, 2]) + packet_id


class Client:
    """A non-blocking connection that answers what has to be answered."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.inbox = bytearray()
        self.outbox = bytearray()
        # Packets that came, by type.
        self.seen = [0] * 16
        self.is_gone = False

    def fileno(self):
        return self.socket.fileno()

    def say(self, data):
        self.outbox += data
        self.flush()

    def flush(self):
        try:
            while self.outbox and not self.is_gone:
                del self.outbox[:self.socket.send(self.outbox)]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.is_gone = True

    def hear(self, most=1 << 16):
        """Takes in up to so many bytes; returns how many came."""
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return 0
        except ConnectionError:
            data = b""
        if not data:
            self.is_gone = True
            return 0
        self.inbox += data
        at, answers = 0, bytearray()
        while len(self.inbox) - at >= 2:
            size, shift, head = 0, 0, at + 1
            while head < len(self.inbox):
                byte = self.inbox[head]
                size |= (byte & 127) << shift
                shift += 7
                head += 1
                if byte < 128:
                    break
            else:
                break
            if len(self.inbox) < head + size:
                break
            self.handle(self.inbox[at], self.inbox[head:head + size], answers)
            at = head + size
        del self.inbox[:at]
        if answers:
            self.say(answers)
        return len(data)

    def handle(self, first, body, answers):
        kind = first >> 4
        self.seen[kind] += 1
        if kind == PUBLISH and first & 6:
            (size,) = struct.unpack(">H", body[:2])
            answer = PUBACK if first & 6 == 2 else PUBREC
            answers += short(answer, body[2 + size:4 + size])
        elif kind == PUBREC:
            answers += short(PUBREL, body[:2])
        elif kind == PUBREL:
            answers += short(PUBCOMP, body[:2])

    def wait_for(self, kind):
        until = time.monotonic() + 60
        while not self.seen[kind]:
            if self.is_gone or time.monotonic() > until:
                sys.exit(f"a packet of type {kind} never came")
            if not self.hear():
                time.sleep(0.001)


class Broker:
    """A broker of its own, with its memory and counters."""

    def __init__(self, program, limits):
        self.program = program
        self.home = tempfile.TemporaryDirectory()
        command = [program, "--listen", "127.0.0.1:0", "--data-dir", self.home.name]
        variables = {f"AXMQ_LIMITS__{name.upper()}": str(value) for name, value in limits.items()}
        environment = os.environ | variables
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        )
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.port = int(line.rsplit(":", 1)[1])
            if "to stop" in line:
                break
        self.begin = time.monotonic()
        self.samples = []

    def ask(self, *words):
        command = [self.program, *words, "--data-dir", self.home.name]
        return subprocess.check_output(command, text=True)

    def is_due(self):
        return time.monotonic() - self.begin >= SAMPLE_S * (len(self.samples) + 1)

    def sample(self):
        """Reads the resident set, if it is time."""
        passed = time.monotonic() - self.begin
        if not self.is_due():
            return False
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as statm:
            kib = int(statm.read().split()[1]) * PAGE // 1024
        self.samples.append(kib)
        print(f"{passed:6.0f} s  {kib / 1024:8.1f} MiB", flush=True)
        return True

    def report(self, warm_up_s, memory):
        status = json.loads(self.ask("status", "--json"))
        for name, value in status["counters"].items():
            if value:
                print(f"  {name:<28} {value}")
        self.process.terminate()
        code = self.process.wait()
        warm = self.samples[warm_up_s // SAMPLE_S:] or self.samples[-1:]
        if not warm:
            sys.exit("it was too short for a sample")
        first, peak, last = warm[0], max(warm), warm[-1]
        cells = [self.samples[0], first, peak, last]
        names = ["first", "warm", "peak after", "last"]
        print(", ".join(f"{name} {kib / 1024:.1f} MiB" for name, kib in zip(names, cells)))
        if code != 0:
            sys.exit(f"the broker ended with {code}")
        if memory:
            used = max(self.samples) * 1024 / memory
            print(f"limit {memory / 2**20:.1f} MiB, of which {used * 100:.0f} %")
            if used > 1.2:
                sys.exit("it has not kept to its limit")
        elif peak > first * 1.05 + 8 * 1024:
            sys.exit("its memory is not flat")


def lives(client):
    """Whether a client that reads nothing is still connected."""
    try:
        return client.socket.send(b"\xc0\0") > 0
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def overload(broker, options):
    qos = options.qos
    def come(name):
        client = Client(broker.port)
        client.say(connect(name) + subscribe(b"load/#", qos))
        return client

    slow = come(b"slow")
    dead = [come(b"dead%d" % at) for at in range(options.dead)]
    for client in [slow, *dead]:
        client.wait_for(SUBACK)
    publishers = [Client(broker.port) for _ in range(10)]
    payload = b"x" * options.payload
    batches, topics = [], [b"load/%d" % at for at in range(10)]
    for at, publisher in enumerate(publishers):
        publisher.say(connect(b"pub%d" % at))
        publisher.wait_for(CONNACK)
        numbers = range(1, WINDOW + 1)
        batches.append(b"".join(publish(topics[at], payload, qos, n) for n in numbers))
    last = {0: None, 1: PUBACK, 2: PUBCOMP}[qos]
    batches_sent = [0] * 10
    takes, offers = options.take, 10 * options.take
    taken = offered = heard = again = 0
    begin = time.monotonic()
    while time.monotonic() - begin < options.seconds:
        passed = time.monotonic() - begin
        room = int(takes * passed) - taken
        if room > 0:
            taken += slow.hear(room)
            slow.flush()
        for at, publisher in enumerate(publishers):
            publisher.flush()
            publisher.hear()
            is_ready = not publisher.outbox
            if last:
                is_ready &= publisher.seen[last] == WINDOW * batches_sent[at]
            if is_ready and offered < offers * passed:
                publisher.say(batches[at])
                offered += len(batches[at])
                batches_sent[at] += 1
        if broker.is_due():
            # The kernel ends a connection of which nothing is taken for a minute; and see --memory.
            for at, client in enumerate(dead):
                if not lives(client):
                    dead[at] = come(b"dead%d" % at)
                    again += 1
        if slow.is_gone:
            heard += slow.seen[PUBLISH]
            slow = come(b"slow")
            again += 1
        if any(client.is_gone for client in publishers):
            print(broker.ask("disconnects"))
            sys.exit("the broker has closed a connection of a publisher")
        broker.sample()
        time.sleep(0.002)
    print(f"offered {offered >> 20} MiB, {sum(batches_sent) * WINDOW} messages at QoS {qos};")
    heard += slow.seen[PUBLISH]
    print(f"the slow subscriber took {taken >> 20} MiB, {heard} messages;")
    print(f"subscribers came again {again} times")
    print(broker.ask("disconnects") if again else "", end="")


def churn(broker, options):
    choose = random.Random(options.seed)
    sessions = selectors.DefaultSelector()
    clients, rounds = 0, 0

    def come():
        nonlocal clients
        name = b"c%d" % choose.randrange(500)
        client = Client(broker.port)
        client.left = choose.randrange(1, 6)
        qos = choose.randrange(3)
        client.say(connect(name, choose.random() < 0.7))
        client.say(subscribe(b"churn/%d/+" % choose.randrange(100), qos))
        sessions.register(client, selectors.EVENT_READ)
        clients += 1

    def go(client):
        nonlocal clients, rounds
        sessions.unregister(client)
        if choose.random() < 0.5 and not client.is_gone:
            client.say(b"\xe0\0")
        if choose.random() < 0.3:
            # No linger: the peer sees a reset.
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
        clients -= 1
        rounds += 1

    begin = time.monotonic()
    while time.monotonic() - begin < options.seconds:
        while clients < options.clients:
            come()
        for key, _ in sessions.select(1):
            client = key.fileobj
            client.hear()
            client.flush()
            if client.is_gone or client.left == 0:
                go(client)
            elif client.seen[SUBACK]:
                client.left -= 1
                topic = b"churn/%d/%d" % (choose.randrange(100), choose.randrange(10))
                qos = choose.randrange(3)
                number = 100 + client.left
                size = choose.choice([10, 200, 5_000])
                client.say(publish(topic, b"x" * size, qos, number) + b"\xc0\0")
        if broker.sample():
            print(f"          {rounds} clients have come and gone", flush=True)
    for key in list(sessions.get_map().values()):
        go(key.fileobj)
    print(f"{rounds} clients have come and gone")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["overload", "churn"])
    parser.add_argument("broker", help="the program")
    parser.add_argument("--qos", type=int, default=0, choices=[0, 1, 2])
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--warm-up", type=int, default=60, help="seconds until it has to be flat")
    parser.add_argument("--payload", type=int, default=1_000, help="bytes")
    parser.add_argument("--take", type=int, default=1_000_000, help="bytes a second")
    parser.add_argument("--dead", type=int, default=1, help="subscribers that read nothing")
    parser.add_argument("--memory", type=int, default=0, help="bytes; 0 is no limit")
    parser.add_argument("--clients", type=int, default=200, help="at a time")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    limits = {"memory_bytes": options.memory} if options.memory else {}
    if options.mode == "churn":
        # What is kept for those that are away reaches its limit in the warm-up.
        limits["session_queue_messages"] = 20
    broker = Broker(os.path.abspath(options.broker), limits)
    try:
        {"overload": overload, "churn": churn}[options.mode](broker, options)
        broker.report(options.warm_up, options.memory)
    finally:
        if broker.process.poll() is None:
            broker.process.kill()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Opens many connections to a running broker and checks that each receives what it should.

Every client subscribes to a topic of its own and to a common one; then one message is published on
each topic of their own and one on the common topic. Every client must receive exactly its own and
the common one. Standard library only; MQTT 3.1.1 in a few bytes. The exit code is 1 on failure.
"""

import argparse
import resource
import selectors
import socket
import struct
import sys
import time

CONNACK, PUBLISH, SUBACK, PINGRESP = 2, 3, 9, 13
# How many connections may be on their way at once; below common listen backlogs.
OPENING_MAX = 100
# Ports of one address pair, with a margin for what the system keeps.
PORTS_A_SOURCE = 20000


def text(value):
    return struct.pack(">H", len(value)) + value


def frame(first, body):
    assert len(body) < 128
    return bytes([first, len(body)]) + body


class Failure(Exception):
    """What the broker did wrong."""


class Client:
    """A non-blocking connection and what it has received."""

    def __init__(self, number, prefix):
        self.number = number
        self.own = f"{prefix}/own/{number}".encode()
        self.common = f"{prefix}/all".encode()
        self.inbox = []
        self.state = "opening"
        self.buffer = b""
        self.socket = None

    def open(self, address, spread):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        if spread:
            source = 1 + self.number // PORTS_A_SOURCE
            self.socket.bind((f"127.0.0.{source}", 0))
        error = self.socket.connect_ex(address)
        if error not in (0, 115):
            raise Failure(f"connect: error {error}")

    def connected(self):
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise Failure(f"client {self.number} could not connect: error {error}")
        name = b"tt%d" % self.number
        self.send(frame(0x10, text(b"MQTT") + b"\x04\x02\x00\x00" + text(name)))
        self.state = "greeting"

    def subscribe(self):
        filters = text(self.own) + b"\1" + text(self.common) + b"\0"
        self.send(frame(0x82, b"\0\1" + filters))
        self.state = "subscribing"

    def send(self, data):
        # A few dozen bytes on a fresh connection always fit into the send buffer.
        if self.socket.send(data) != len(data):
            raise Failure(f"client {self.number} could not send")

    def receive(self):
        """Takes in what is there and yields (first byte, body) of each whole packet."""
        try:
            data = self.socket.recv(4096)
        except BlockingIOError:
            return
        except ConnectionError as error:
            raise Failure(f"client {self.number} in state {self.state}: {error}") from None
        if not data:
            raise Failure(f"client {self.number} was closed in state {self.state}")
        self.buffer += data
        while len(self.buffer) >= 2:
            size = self.buffer[1]
            if size >= 128:
                raise Failure(f"client {self.number} received a packet that is too long")
            if len(self.buffer) < 2 + size:
                break
            first, body = self.buffer[0], self.buffer[2:2 + size]
            self.buffer = self.buffer[2 + size:]
            yield first, body

    def handle(self, first, body):
        kind = first >> 4
        if kind == CONNACK and self.state == "greeting":
            if body != b"\0\0":
                raise Failure(f"client {self.number} was refused: {body!r}")
            self.subscribe()
        elif kind == SUBACK and self.state == "subscribing":
            if body != b"\0\1\1\0":
                raise Failure(f"client {self.number} received SUBACK {body!r}")
            self.state = "ready"
        elif kind == PUBLISH:
            size = struct.unpack(">H", body[:2])[0]
            topic, rest = body[2:2 + size], body[2 + size:]
            if first >> 1 & 3:
                self.send(frame(0x40, rest[:2]))
                rest = rest[2:]
            self.inbox.append((topic, rest))
        elif kind == PINGRESP:
            self.state = "done"
        else:
            raise Failure(f"client {self.number} received packet {kind} in state {self.state}")

    def check(self):
        expected = sorted([(self.own, b"own %d" % self.number), (self.common, b"common")])
        if sorted(self.inbox) != expected:
            raise Failure(f"client {self.number} received {self.inbox!r}")


class Crowd:
    """All clients, one selector, one time limit."""

    def __init__(self, address, count, limit_s):
        self.address = address
        self.end = time.monotonic() + limit_s
        prefix = f"tt{time.monotonic_ns():x}"
        self.clients = [Client(number, prefix) for number in range(count)]
        self.selector = selectors.DefaultSelector()
        self.spread = address[0].startswith("127.")

    def turn(self, what):
        left = self.end - time.monotonic()
        if left <= 0:
            states = {}
            for client in self.clients:
                key = f"{client.state} with {len(client.inbox)} messages"
                states[key] = states.get(key, 0) + 1
            raise Failure(f"out of time while {what}: {states}")
        for key, events in self.selector.select(left):
            client = key.data
            if client.state == "opening" and events & selectors.EVENT_WRITE:
                client.connected()
                self.selector.modify(client.socket, selectors.EVENT_READ, client)
            elif events & selectors.EVENT_READ:
                for first, body in client.receive():
                    client.handle(first, body)

    def open_all(self):
        opened = ready = 0
        waiting = []
        while ready < len(self.clients):
            while opened < len(self.clients) and len(waiting) < OPENING_MAX:
                client = self.clients[opened]
                client.open(self.address, self.spread)
                self.selector.register(client.socket, selectors.EVENT_WRITE, client)
                waiting.append(client)
                opened += 1
            self.turn("connecting")
            still = [client for client in waiting if client.state != "ready"]
            ready += len(waiting) - len(still)
            waiting = still

    def publish_all(self):
        """Each client publishes its neighbour's message, the first the common one as well."""
        for client in self.clients:
            other = self.clients[(client.number + 1) % len(self.clients)]
            client.send(frame(0x30, text(other.own) + b"own %d" % other.number))
        self.clients[0].send(frame(0x30, text(self.clients[0].common) + b"common"))

    def receive_all(self):
        while any(len(client.inbox) < 2 for client in self.clients):
            self.turn("waiting for messages")
        # What was sent too much has come before the answer to a ping.
        for client in self.clients:
            client.send(b"\xc0\0")
        while any(client.state != "done" for client in self.clients):
            self.turn("waiting for the answers to pings")
        for client in self.clients:
            client.check()

    def close(self):
        for client in self.clients:
            if client.socket is not None:
                client.socket.close()
        self.selector.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--limit", type=float, default=120, help="seconds in all")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < options.count + 64:
        print(f"FAILED ten-thousand: only {hard} descriptors are allowed")
        sys.exit(1)
    start = time.monotonic()
    crowd = Crowd((options.host, options.port), options.count, options.limit)
    try:
        crowd.open_all()
        opened = time.monotonic()
        crowd.publish_all()
        crowd.receive_all()
    except (Failure, OSError) as why:
        print(f"FAILED ten-thousand: {why}")
        sys.exit(1)
    finally:
        crowd.close()
    print(f"ok ten-thousand: {options.count} connections subscribed in {opened - start:.1f} s, "
          f"{2 * options.count} messages received in {time.monotonic() - opened:.1f} s")


if __name__ == "__main__":
    main()

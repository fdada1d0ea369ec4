"""A stranger who sends rubbish is closed four times, banned, and then not even answered; his
neighbour is not concerned. Run in a namespace that has both addresses."""
import socket
import sys
import time


def connect(source, target, seconds):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    peer = socket.socket(family, socket.SOCK_STREAM)
    peer.settimeout(seconds)
    peer.bind((source, 0))
    peer.connect((target, 1883))
    return peer


def is_closed(peer):
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True


def offend(source, target):
    for _ in range(5):
        peer = connect(source, target, 20)
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert is_closed(peer), "rubbish has to be refused"


def is_dropped(source, target):
    """Whether nobody answers; tried until the batch with the ban has come to the kernel."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            peer = connect(source, target, 0.5)
        except TimeoutError:
            return True
        try:
            assert is_closed(peer), "banned, and still served"
        except TimeoutError:
            # The ban came to the kernel in the middle of the handshake: the next try shows it.
            pass
        peer.close()
    return False


def is_served(source, target):
    peer = connect(source, target, 20)
    peer.sendall(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02ok")
    return peer.recv(4) == b"\x20\x02\x00\x00"


kind = sys.argv[1]
offend("10.77.0.2", "10.77.0.1")
assert is_dropped("10.77.0.2", "10.77.0.1"), "the kernel still lets it through"
assert is_served("10.77.0.3", "10.77.0.1"), "a neighbour is concerned"
print(f"ok {kind}: an IPv4 address is dropped, its neighbour is served")
offend("fd77::2", "fd77::1")
assert is_dropped("fd77::2", "fd77::1"), "the kernel still lets it through"
print(f"ok {kind}: an IPv6 network is dropped")

"""A socket that speaks just enough MQTT to say what a well-behaved client would not."""

import socket
import ssl
import struct

from .harness import LIMIT_S, V5, V31, Failed, Skipped, check, unique

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14


def variable(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(raw)) + raw


def frame(kind, body=b"", flags=None):
    if flags is None:
        flags = 2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def connect(version, client_id, clean=True, keep_alive=60, will=None, props=b""):
    name = text("MQIsdp") if version == V31 else text("MQTT")
    flags = (2 if clean else 0) | (4 if will else 0)
    body = name + bytes([version, flags]) + struct.pack(">H", keep_alive)
    body += variable(len(props)) + props if version == V5 else b""
    body += text(client_id)
    if will:
        topic, payload = will
        body += (b"\0" if version == V5 else b"") + text(topic) + text(payload)
    return frame(CONNECT, body)


def subscribe(version, packet_id, *filters, qos=0):
    body = struct.pack(">H", packet_id) + (b"\0" if version == V5 else b"")
    return frame(SUBSCRIBE, body + b"".join(text(item) + bytes([qos]) for item in filters))


def publish(version, topic, payload, qos=0, packet_id=1, flags=0, props=b""):
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    body += variable(len(props)) + props if version == V5 else b""
    return frame(PUBLISH, body + payload, qos << 1 | flags)


class Raw:
    """A connection; frames come back as (kind, flags, body)."""

    def __init__(self, broker, version, **options):
        self.version = version
        self._buffer = b""
        if broker.websocket:
            raise Skipped("no WebSocket")
        self.socket = socket.create_connection((broker.host, broker.port), timeout=LIMIT_S)
        if broker.cafile:
            context = ssl.create_default_context(cafile=broker.cafile)
            self.socket = context.wrap_socket(self.socket, server_hostname=broker.host)
        self.connack = None
        if options.pop("hello", True):
            self.send(connect(version, options.pop("client_id", None) or unique("r"), **options))
            self.connack = self.expect(CONNACK)[1]
            check(self.connack[1] == 0, f"refused with {self.connack[1]:#x}")

    def send(self, data):
        self.socket.sendall(data)

    def _need(self, count):
        while len(self._buffer) < count:
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                raise Failed("nothing came from the broker") from None
            except ConnectionError:
                more = b""
            if not more:
                return False
            self._buffer += more
        return True

    def read(self):
        """The next frame, or None if the connection was closed."""
        length, shift, at = 0, 0, 1
        while True:
            if not self._need(at + 1):
                return None
            byte = self._buffer[at]
            length |= (byte & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if byte < 0x80:
                break
        if not self._need(at + length):
            return None
        first, body = self._buffer[0], self._buffer[at:at + length]
        self._buffer = self._buffer[at + length:]
        return first >> 4, first & 15, body

    def expect(self, kind):
        """The flags and the body of the next frame, which must be of this kind."""
        got = self.read()
        check(got is not None, f"closed instead of packet {kind}")
        check(got[0] == kind, f"packet {got[0]} {got[2][:40]!r} instead of {kind}")
        return got[1:]

    def expect_publish(self):
        """(topic, payload, qos, packet id) of the next frame, which must be a PUBLISH."""
        flags, body = self.expect(PUBLISH)
        qos, size = flags >> 1 & 3, struct.unpack(">H", body[:2])[0]
        topic, rest = body[2:2 + size].decode(), body[2 + size:]
        packet_id = 0
        if qos:
            packet_id, rest = struct.unpack(">H", rest[:2])[0], rest[2:]
        if self.version == V5:
            check(rest[0] < 0x80, "longer properties than this client reads")
            rest = rest[1 + rest[0]:]
        return topic, rest, qos, packet_id

    def until_closed(self):
        """The frames that come before the connection is closed."""
        frames = []
        while (got := self.read()) is not None:
            frames.append(got)
        return frames

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

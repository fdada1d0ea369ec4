"""Bytes that no client library would send. Only the connection that sent them suffers."""

import struct

from .harness import V5, V31, V311, case, check, equal, unique
from .paho_tool import Paho
from .raw import (CONNACK, CONNECT, DISCONNECT, PINGREQ, PINGRESP, PUBLISH, SUBACK, SUBSCRIBE, Raw,
                  connect, frame, publish, subscribe, text, variable)

VERSIONS = [(version,) for version in (V31, V311, V5)]
# (what is wrong, bytes after CONNACK, reason codes that MQTT 5.0 allows in the DISCONNECT)
MALFORMED = {
    "packet type 0": (b"\x00\x00", (0x81, 0x82)),
    "a second CONNECT": (None, (0x82,)),
    "a CONNACK from a client": (b"\x20\x02\x00\x00", (0x81, 0x82)),
    "a length of five bytes": (b"\x30\xff\xff\xff\xff\x7f", (0x81,)),
    "flags of PINGREQ": (b"\xc1\x00", (0x81,)),
    "flags of SUBSCRIBE": (b"\x80\x06\x00\x01\x00\x01a\x00", (0x81,)),
    "QoS 3": (b"\x36\x05\x00\x01a\x00\x01", (0x81,)),
    "a topic longer than the packet": (b"\x30\x04\x00\x09ab", (0x81,)),
    "a topic that is not UTF-8": (b"\x30\x04\x00\x02\xc3\x28", (0x81, 0x90)),
    "a topic with NUL": (b"\x30\x04\x00\x02a\x00", (0x81, 0x90)),
    "a surrogate in a topic": (b"\x30\x05\x00\x03\xed\xa0\x80", (0x81, 0x90)),
    "a wildcard in a topic": (b"\x30\x05\x00\x03a/#", (0x81, 0x82, 0x90)),
    "packet id 0": (b"\x32\x05\x00\x01a\x00\x00", (0x81, 0x82)),
    "a SUBSCRIBE without filters": (b"\x82\x02\x00\x01", (0x81, 0x82)),
    "a cut PUBLISH body": (b"\x32\x03\x00\x01a", (0x81,)),
    # QoS 3 is called a protocol error in section 3.8.3.1, not a malformed packet.
    "options of a filter": (b"\x82\x06\x00\x01\x00\x01a\x03", (0x81, 0x82)),
}


class Wrong:
    """One kind of malformed bytes, with a name to show."""

    def __init__(self, what, version):
        self.name = what
        data, self.reasons = MALFORMED[what]
        if data is None:
            data = connect(version, unique("r"))
        elif version == V5 and data[0] >> 4 in (PUBLISH, SUBSCRIBE):
            data = self._with_properties(data)
        self.data = data

    @staticmethod
    def _with_properties(data):
        """The same packet with an empty property list where MQTT 5.0 has one."""
        first, body = data[:1], data[2:]
        if data[1] >= 0x80:
            return data
        if data[0] >> 4 == SUBSCRIBE:
            body = body[:2] + b"\0" + body[2:]
        elif body[1] < len(body):
            at = 2 + body[1] + (2 if data[0] & 6 else 0)
            body = body[:at] + b"\0" + body[at:] if at <= len(body) else body
        return first + variable(len(body)) + body


@case(*[(version, Wrong(what, version)) for version in (V311, V5) for what in MALFORMED])
def malformed(broker, version, wrong):
    # mosquitto 2.0.11 ignores the flags of PINGREQ, and closes without a DISCONNECT after a second
    # CONNECT, a packet that only servers send, and a length of five bytes.
    topic = unique()
    with Paho(broker, version) as neighbour, Raw(broker, version) as client:
        neighbour.subscribe(topic, qos=1)
        client.send(wrong.data)
        frames = client.until_closed()
        if version == V5:
            check(frames, "closed without DISCONNECT")
            equal(frames[0][0], DISCONNECT, "last packet")
            reason = frames[0][2][0] if frames[0][2] else 0
            check(reason in wrong.reasons, f"reason {reason:#x}")
        else:
            equal(frames, [], "packets before the end")
        neighbour.publish(topic, b"unharmed", qos=1)
        equal(neighbour.take(1)[0].payload, b"unharmed", "the neighbour's message")


@case(*VERSIONS)
def malformed_bytes_fire_the_will(broker, version):
    topic = unique()
    with Paho(broker, version) as witness, Raw(broker, version, will=(topic, "gone")) as client:
        witness.subscribe(topic, qos=1)
        client.send(b"\x00\x00")
        equal(witness.take(1)[0].payload, b"gone", "will")
        client.until_closed()


@case(*VERSIONS)
def what_precedes_malformed_bytes_counts(broker, version):
    topic = unique()
    with Paho(broker, version) as witness, Raw(broker, version) as client:
        witness.subscribe(topic, qos=1)
        client.send(publish(version, topic, b"before") + b"\x00\x00")
        equal(witness.take(1)[0].payload, b"before", "message before the malformed packet")
        client.until_closed()


FIRST = {
    "PUBLISH": publish(V311, "a", b"x"),
    "PINGREQ": frame(PINGREQ),
    "zeros": bytes(64),
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an unknown protocol": frame(CONNECT, text("MQTX") + b"\x04\x02\x00\x3c" + text("x")),
    "a reserved flag": frame(CONNECT, text("MQTT") + b"\x04\x03\x00\x3c" + text("x")),
    "will QoS 3": frame(CONNECT, text("MQTT") + b"\x04\x1e\x00\x3c" + text("x") * 3),
    "a client id that is not UTF-8": connect(V311, b"\xff\xfe"),
    "a cut CONNECT body": frame(CONNECT, text("MQTT") + b"\x04"),
}


class First:
    """Bytes instead of a CONNECT, with a name to show."""

    def __init__(self, name):
        self.name = name
        self.data = FIRST[name]


@case(*[(First(name),) for name in FIRST])
def wrong_first_packet(broker, first):
    with Raw(broker, V311, hello=False) as client:
        client.send(first.data)
        frames = client.until_closed()
        fine = not frames or frames[0][0] == CONNACK and frames[0][2][1] != 0
        check(fine, f"answered with {frames[:1]}")


@case()
def unknown_protocol_level(broker):
    with Raw(broker, V311, hello=False) as client:
        client.send(frame(CONNECT, text("MQTT") + b"\x09\x02\x00\x3c" + text(unique())))
        frames = client.until_closed()
        # A broker that knows 5.0 may answer with either version's code.
        if frames:
            check(frames[0][2][1] in (1, 0x84), f"code {frames[0][2][1]:#x} [MQTT-3.1.2-2]")


@case((V311,), (V5,))
def invalid_filter_gets_its_code(broker, version):
    """Names the filter in the SUBACK; the others of the packet stand, and so does the connection.

    mosquitto 2.0.11 closes the connection.
    """
    topic = unique()
    code = 0x8F if version == V5 else 0x80
    for item in ("a/#/b", "a#", "+a/b", "#/"):
        with Raw(broker, version) as client:
            client.send(subscribe(version, 5, topic, item, qos=1))
            body = client.expect(SUBACK)[1]
            equal(body[-2:], bytes([1, code]), f"codes for a good filter and {item}")
            client.send(publish(version, topic, b"alive"))
            equal(client.expect_publish()[:2], (topic, b"alive"), "message on the good one")


@case((V5,))
def a_packet_over_the_limit_is_refused(broker, version):
    """Only the head is sent: the broker must not wait for 256 MB."""
    with Raw(broker, version) as client:
        client.send(b"\x30\xff\xff\xff\x7f" + text("a") + b"\0")
        client.send(b"x" * 1000)
        client.socket.settimeout(1)
        closed = None
        try:
            closed = client.until_closed()
        except Exception:
            # A broker without a limit waits for the rest.
            client.send(b"x")
        if closed:
            equal((closed[0][0], closed[0][2][:1]), (DISCONNECT, b"\x95"), "last packet")


@case(*VERSIONS)
def a_byte_at_a_time(broker, version):
    topic = unique()
    with Raw(broker, version) as client:
        stream = subscribe(version, 3, topic, qos=1) + publish(version, topic, b"slow")
        stream += frame(PINGREQ)
        for byte in stream:
            client.send(bytes([byte]))
        client.expect(SUBACK)
        kinds = [client.read() for _ in range(2)]
        equal(sorted(got[0] for got in kinds), [PUBLISH, PINGRESP], "answers")


@case(*VERSIONS)
def many_packets_in_one_segment(broker, version):
    topic = unique()
    with Raw(broker, version) as client:
        stream = subscribe(version, 3, topic)
        for number in range(500):
            stream += publish(version, topic, struct.pack(">H", number))
        client.send(stream)
        client.expect(SUBACK)
        for number in range(500):
            equal(client.expect_publish()[1], struct.pack(">H", number), "message")


@case(*VERSIONS)
def publish_disconnect_and_fin_in_one_segment(broker, version):
    topic = unique()
    with Paho(broker, version) as witness:
        witness.subscribe(topic, qos=1)
        client = Raw(broker, version, will=(topic, "will"))
        client.send(publish(version, topic, b"last") + frame(DISCONNECT))
        client.close()
        equal(witness.take(1)[0].payload, b"last", "message before DISCONNECT")
        witness.publish(topic, b"end", qos=1)
        equal(witness.take_until(b"end"), [], "wills after DISCONNECT")

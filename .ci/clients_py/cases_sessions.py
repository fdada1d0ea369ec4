"""Client ids, take-over, keep-alive, overlapping subscriptions: paho and raw sockets."""

import time

from .harness import V5, V31, V311, case, check, equal, pause, unique
from .paho_tool import Paho, properties
from .raw import (CONNACK, DISCONNECT, PINGREQ, PINGRESP, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK,
                  Raw, connect, frame, publish, subscribe)

VERSIONS = [(version,) for version in (V31, V311, V5)]


@case(*VERSIONS)
def two_clients_with_one_id(broker, version):
    topic, client_id = unique(), unique("i")
    with Paho(broker, version, client_id) as first, Paho(broker, version, client_id) as second:
        code = first.wait_gone()
        if version == V5:
            # mosquitto 2.0.11 closes without a DISCONNECT [MQTT-3.1.4-3].
            equal(code, 0x8E, "reason given to the first")
        second.subscribe(topic, qos=1)
        second.publish(topic, b"in", qos=1)
        equal(second.take(1)[0].payload, b"in", "message of the second")
        check(not second.is_gone(), "the second client got out")


@case(*VERSIONS)
def take_over_of_a_persistent_session(broker, version):
    topic = unique()
    options = {"client_id": unique("i"), "clean": False}
    if version == V5:
        options["connect_properties"] = properties("CONNECT", SessionExpiryInterval=100)
    with Paho(broker, version, **options) as first:
        first.subscribe(topic, qos=1)
        with Paho(broker, version, **options) as second:
            first.wait_gone()
            # MQTT 3.1 has no flag that says so.
            if version != V31:
                check(second.session_present, "the session is not present")
            second.publish(topic, b"kept", qos=1)
            equal(second.take(1)[0].payload, b"kept", "subscription of the first")
    Paho(broker, version, options["client_id"]).stop()


@case(*VERSIONS)
def session_present_and_clean_start(broker, version):
    client_id = unique("i")
    options = {"client_id": client_id, "clean": False}
    if version == V5:
        options["connect_properties"] = properties("CONNECT", SessionExpiryInterval=100)
    with Paho(broker, version, **options) as client:
        check(not client.session_present, "a session is present at the first connect")
        client.stop()
    with Paho(broker, version, **options) as client:
        if version != V31:
            check(client.session_present, "no session is present at the second connect")
        client.stop()
    with Paho(broker, version, client_id) as client:
        check(not client.session_present, "a session is present after a clean start")
        client.stop()


@case((V311,), (V5,))
def empty_client_ids_are_assigned(broker, version):
    with Raw(broker, version, hello=False) as one, Raw(broker, version, hello=False) as two:
        for client in (one, two):
            client.send(connect(version, b""))
            body = client.expect(CONNACK)[1]
            equal(body[1], 0, "code of the CONNACK")
        # Had both got one id, the second would have taken over.
        for client in (one, two):
            client.send(frame(PINGREQ))
            client.expect(PINGRESP)


@case()
def empty_client_id_needs_a_clean_session(broker):
    with Raw(broker, V311, hello=False) as client:
        client.send(connect(V311, b"", clean=False))
        equal(client.expect(CONNACK)[1], b"\0\2", "CONNACK [MQTT-3.1.3-8]")
        equal(client.until_closed(), [], "what comes after it")


@case()
def assigned_client_id(broker):
    with Paho(broker, V5, "") as one, Paho(broker, V5, "") as two:
        ids = [getattr(client.connack_properties, "AssignedClientIdentifier", "")
               for client in (one, two)]
        check(all(ids) and ids[0] != ids[1], f"assigned ids {ids}")
        with Paho(broker, V5, ids[0]):
            # mosquitto 2.0.11 closes without a DISCONNECT [MQTT-3.1.4-3].
            equal(one.wait_gone(), 0x8E, "reason, when somebody else uses the assigned id")
        check(not two.is_gone(), "the other got out")


@case(*VERSIONS)
def overlapping_subscriptions(broker, version):
    base = unique()
    with Paho(broker, version) as client:
        equal(client.subscribe(f"{base}/+", qos=1), [1], "SUBACK")
        equal(client.subscribe(f"{base}/#", qos=0), [0], "SUBACK")
        equal(client.subscribe(f"{base}/a", qos=2), [2], "SUBACK")
        client.publish(f"{base}/a", b"x", qos=2)
        client.publish(f"{base}/a", b"end", qos=2)
        copies = [client.take(1)[0]]
        copies += client.take_until(b"end")
        # One copy of the highest QoS, or one for each subscription [MQTT-3.3.5-1].
        check(len(copies) in (1, 3), f"{len(copies)} copies")
        equal(max(message.qos for message in copies), 2, "highest QoS")


@case(*VERSIONS)
def subscribing_again_replaces(broker, version):
    topic = unique()
    with Paho(broker, version) as client:
        equal(client.subscribe(topic, qos=2), [2], "SUBACK")
        equal(client.subscribe(topic, qos=0), [0], "SUBACK")
        client.publish(topic, b"x", qos=2)
        client.publish(topic, b"end", qos=2)
        copies = client.take_until(b"end")
        equal([message.qos for message in copies], [0], "QoS of the copies")


@case(*VERSIONS)
def unsubscribe(broker, version):
    topic, other = unique(), unique()
    with Paho(broker, version) as client:
        client.subscribe(topic, other, qos=1)
        client.unsubscribe(topic, unique("never"))
        client.publish(topic, b"x", qos=1)
        client.publish(other, b"end", qos=1)
        equal(client.take_until(b"end"), [], "messages after UNSUBACK")


@case(*VERSIONS)
def several_filters_in_one_subscribe(broker, version):
    base = unique()
    with Paho(broker, version) as client:
        filters = [f"{base}/{number}" for number in range(100)]
        equal(client.subscribe(*filters, qos=1), [1] * 100, "SUBACK")
        for number in (0, 57, 99):
            client.publish(f"{base}/{number}", b"%d" % number, qos=1)
            equal(client.take(1)[0].payload, b"%d" % number, "message")


@case(*VERSIONS)
def keep_alive_fires_the_will(broker, version):
    topic = unique()
    with Paho(broker, version) as witness:
        witness.subscribe(topic, qos=1)
        start = time.monotonic()
        with Raw(broker, version, keep_alive=1, will=(topic, "silent")) as client:
            message = witness.take(1)[0]
            elapsed = time.monotonic() - start
            equal(message.payload, b"silent", "will")
            check(1.5 <= elapsed, f"it came after {elapsed:.2f} s, before 1.5 × keep-alive")
            frames = client.until_closed()
            if version == V5 and frames:
                # The DISCONNECT is a courtesy; if it comes it names the reason.
                equal((frames[0][0], frames[0][2][:1]), (DISCONNECT, b"\x8d"), "last packet")


@case(*VERSIONS)
def pings_keep_a_client_alive(broker, version):
    topic = unique()
    with Paho(broker, version) as witness:
        witness.subscribe(topic, qos=1)
        with Raw(broker, version, keep_alive=1, will=(topic, "gone")) as client:
            for _ in range(4):
                pause(0.7)
                client.send(frame(PINGREQ))
                client.expect(PINGRESP)
            witness.publish(topic, b"end", qos=1)
            equal(witness.take_until(b"end"), [], "wills of a client that pings")
            client.send(frame(DISCONNECT))


@case(*VERSIONS)
def half_a_session_of_qos_2_is_finished_after_reconnect(broker, version):
    """A subscriber that vanishes before PUBREC gets the message again, with DUP and the same id."""
    topic, client_id = unique(), unique("i")
    expiry = b"\x11\0\0\0\x64" if version == V5 else b""
    with Raw(broker, version, client_id=client_id, clean=False, props=expiry) as client:
        client.send(subscribe(version, 7, topic, qos=2))
        client.expect(SUBACK)
        with Paho(broker, version) as publisher:
            publisher.publish(topic, b"twice", qos=2)
        flags, body = client.expect(PUBLISH)
        equal(flags, 0b0100, "flags of the first PUBLISH")
        packet_id = body[2 + len(topic):4 + len(topic)]
    with Raw(broker, version, client_id=client_id, clean=False, props=expiry) as client:
        flags, body = client.expect(PUBLISH)
        equal(flags, 0b1100, "flags of the second PUBLISH [MQTT-3.3.1-1]")
        equal(body[2 + len(topic):4 + len(topic)], packet_id, "packet id")
        client.send(frame(PUBREC, packet_id))
        equal(client.expect(PUBREL)[1][:2], packet_id, "packet id of PUBREL")
    with Raw(broker, version, client_id=client_id, clean=False, props=expiry) as client:
        equal(client.expect(PUBREL)[1][:2], packet_id, "packet id of PUBREL after reconnect")
        client.send(frame(PUBCOMP, packet_id) + frame(PINGREQ))
        client.expect(PINGRESP)
        client.send(frame(DISCONNECT))
    Paho(broker, version, client_id).stop()


@case(*VERSIONS)
def a_repeated_qos_2_publish_is_routed_once(broker, version):
    topic = unique()
    with Paho(broker, version) as witness, Raw(broker, version) as client:
        witness.subscribe(topic, qos=2)
        client.send(publish(version, topic, b"once", qos=2, packet_id=9))
        client.expect(PUBREC)
        client.send(publish(version, topic, b"once", qos=2, packet_id=9, flags=8))
        client.expect(PUBREC)
        client.send(frame(PUBREL, b"\0\x09"))
        client.expect(PUBCOMP)
        witness.publish(topic, b"end", qos=2)
        equal([m.payload for m in witness.take_until(b"end")], [b"once"], "copies")

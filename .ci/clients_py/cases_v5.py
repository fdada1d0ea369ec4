"""What MQTT 5.0 adds, with paho and raw sockets."""

import struct

from .harness import V5, Skipped, case, check, equal, pause, unique
from .paho_tool import Paho, properties
from .raw import (DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBREC, SUBACK, Raw, frame, publish,
                  subscribe)


@case()
def session_expiry(broker):
    short, long, none = unique("s"), unique("s"), unique("s")
    expiries = {short: 1, long: 100, none: None}
    for client_id, expiry in expiries.items():
        props = expiry and properties("CONNECT", SessionExpiryInterval=expiry)
        with Paho(broker, V5, client_id, connect_properties=props) as client:
            client.stop()
    # Present while it lasts: at once, and again after the short one's end.
    with Paho(broker, V5, none, clean=False) as client:
        check(not client.session_present, "a session without expiry outlived its connection")
    pause(2.5)
    with Paho(broker, V5, short, clean=False) as client:
        check(not client.session_present, "the session of one second is still there")
    with Paho(broker, V5, long, clean=False) as client:
        check(client.session_present, "the session of a hundred seconds is gone")


@case()
def disconnect_changes_session_expiry(broker):
    client_id = unique("s")
    props = properties("CONNECT", SessionExpiryInterval=100)
    with Paho(broker, V5, client_id, connect_properties=props) as client:
        client.stop(SessionExpiryInterval=0)
    with Paho(broker, V5, client_id, clean=False) as client:
        check(not client.session_present, "DISCONNECT did not end the session")


@case()
def message_expiry(broker):
    topic, client_id = unique(), unique("s")
    options = {"client_id": client_id, "clean": False,
               "connect_properties": properties("CONNECT", SessionExpiryInterval=100)}
    with Paho(broker, V5, **options) as client:
        client.subscribe(topic, qos=1)
        client.stop()
    with Paho(broker, V5) as publisher:
        publisher.publish(topic, b"stale", qos=1, MessageExpiryInterval=1)
        publisher.publish(topic, b"fresh", qos=1, MessageExpiryInterval=60)
        publisher.publish(topic, b"forever", qos=1)
        pause(2.5)
        with Paho(broker, V5, **options) as client:
            publisher.publish(topic, b"end", qos=1)
            messages = client.take_until(b"end")
            equal([m.payload for m in messages], [b"fresh", b"forever"], "messages left")
            left = messages[0].properties.MessageExpiryInterval
            check(55 <= left <= 58, f"{left} s are left of 60 after 2.5 [MQTT-3.3.2-6]")
            check(not hasattr(messages[1].properties, "MessageExpiryInterval"), "expiry made up")
            client.stop()
    Paho(broker, V5, client_id).stop()


@case()
def retained_message_expiry(broker):
    base = unique()
    with Paho(broker, V5) as publisher:
        publisher.publish(f"{base}/a", b"stale", retain=True, qos=1, MessageExpiryInterval=1)
        publisher.publish(f"{base}/b", b"fresh", retain=True, qos=1, MessageExpiryInterval=60)
        pause(2.5)
        with Paho(broker, V5) as late:
            late.subscribe(f"{base}/#", qos=1)
            equal(late.take(1)[0].payload, b"fresh", "retained message left")
            publisher.publish(f"{base}/b", b"", retain=True, qos=1)
            equal(late.take_until(b""), [], "other retained messages")


@case()
def topic_alias(broker):
    one, two = unique(), unique()
    with Paho(broker, V5) as witness, Paho(broker, V5) as client:
        if not getattr(client.connack_properties, "TopicAliasMaximum", 0):
            raise Skipped("the broker admits no topic aliases")
        witness.subscribe(one, two, qos=1)
        client.publish(one, b"1", qos=1, TopicAlias=1)
        client.publish("", b"2", qos=1, TopicAlias=1)
        client.publish(two, b"3", qos=1, TopicAlias=1)
        client.publish("", b"4", qos=1, TopicAlias=1)
        messages = witness.take(4)
        got = [(m.topic, m.payload) for m in messages]
        equal(got, [(one, b"1"), (one, b"2"), (two, b"3"), (two, b"4")], "messages")
        # The witness has not said that it takes aliases.
        check(not any(hasattr(m.properties, "TopicAlias") for m in messages), "an alias came")


@case()
def topic_alias_of_the_broker(broker):
    # paho-mqtt hands the alias to the program, which has to keep the names.
    one, two, end, names = unique(), unique(), unique(), {}
    takes = properties("CONNECT", TopicAliasMaximum=2)
    with Paho(broker, V5, connect_properties=takes) as witness, Paho(broker, V5) as client:
        witness.subscribe(one, two, end, qos=1)
        sent = [(topic, b"%d" % n) for n in range(3) for topic in (one, two, end)]
        for topic, payload in sent:
            client.publish(topic, payload, qos=1)
        got, aliased = [], 0
        for message in witness.take(len(sent)):
            alias = getattr(message.properties, "TopicAlias", None)
            if alias and message.topic:
                names[alias] = message.topic
            aliased += not message.topic
            got.append((message.topic or names.get(alias), message.payload))
        equal(got, sent, "messages")
        if not names:
            raise Skipped("the broker sets no topic aliases")
        equal(len(names), 2, "aliases, as many as it takes")
        equal(aliased, 4, "messages without a name")


@case()
def properties_pass_through(broker):
    topic = unique()
    pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("", ""), ("ü", "π" * 100)]
    with Paho(broker, V5) as client:
        client.subscribe(topic, qos=1)
        client.publish(topic, "text", qos=1, UserProperty=pairs, PayloadFormatIndicator=1,
                       ContentType="text/plain", ResponseTopic="answers/here",
                       CorrelationData=b"\0\xff\1")
        props = client.take(1)[0].properties
        equal(props.UserProperty, pairs, "user properties [MQTT-3.3.2-17, -18]")
        equal(props.PayloadFormatIndicator, 1, "payload format [MQTT-3.3.2-4]")
        equal(props.ContentType, "text/plain", "content type [MQTT-3.3.2-20]")
        equal(props.ResponseTopic, "answers/here", "response topic [MQTT-3.3.2-15]")
        equal(props.CorrelationData, b"\0\xff\1", "correlation data [MQTT-3.3.2-16]")


@case()
def properties_of_retained_and_will(broker):
    kept, last = unique(), unique()
    will_props = properties("WILLMESSAGE", ContentType="will",
                            UserProperty=[("x", "1"), ("x", "2")])
    will = {"topic": last, "payload": "gone", "qos": 1, "properties": will_props}
    with Paho(broker, V5) as witness:
        witness.subscribe(last, qos=1)
        with Paho(broker, V5, will=will) as victim:
            victim.publish(kept, b"kept", qos=1, retain=True, ContentType="retained")
            victim.kill()
        message = witness.take(1)[0]
        equal(message.properties.ContentType, "will", "content type of the will")
        equal(message.properties.UserProperty, [("x", "1"), ("x", "2")], "user properties")
        witness.subscribe(kept, qos=1)
        equal(witness.take(1)[0].properties.ContentType, "retained", "content type, retained")
        witness.publish(kept, b"", qos=1, retain=True)


@case()
def request_and_response(broker):
    requests, answers = unique(), unique()
    with Paho(broker, V5) as server, Paho(broker, V5) as client:
        server.subscribe(requests, qos=1)
        client.subscribe(answers, qos=1)
        client.publish(requests, b"6*7", qos=1, ResponseTopic=answers, CorrelationData=b"id")
        request = server.take(1)[0]
        server.publish(request.properties.ResponseTopic, b"42", qos=1,
                       CorrelationData=request.properties.CorrelationData)
        answer = client.take(1)[0]
        equal((answer.payload, answer.properties.CorrelationData), (b"42", b"id"), "answer")


@case()
def subscription_identifiers(broker):
    base = unique()
    with Paho(broker, V5) as client:
        client.subscribe(f"{base}/a", qos=1, identifier=1)
        client.subscribe(f"{base}/+", qos=1, identifier=268_435_455)
        client.subscribe(f"{base}/b", qos=1)
        client.publish(f"{base}/a", b"x", qos=1)
        client.publish(f"{base}/b", b"end", qos=1)
        copies = client.take_until(b"end")
        found = sorted(number for m in copies
                       for number in getattr(m.properties, "SubscriptionIdentifier", []))
        equal(found, [1, 268_435_455], "identifiers over all copies [MQTT-3.3.4-3, -4]")


@case()
def subscribing_again_replaces_the_identifier(broker):
    topic = unique()
    with Paho(broker, V5) as client:
        client.subscribe(topic, qos=1, identifier=5)
        client.subscribe(topic, qos=1, identifier=6)
        client.publish(topic, b"x", qos=1)
        message = client.take(1)[0]
        equal(message.properties.SubscriptionIdentifier, [6], "identifiers")


@case()
def no_local(broker):
    topic = unique()
    with Paho(broker, V5) as client, Paho(broker, V5) as other:
        client.subscribe(topic, qos=1, noLocal=True)
        client.publish(topic, b"mine", qos=1)
        other.publish(topic, b"end", qos=1)
        equal(client.take_until(b"end"), [], "own messages [MQTT-3.8.3-3]")


@case()
def retain_handling(broker):
    topic = unique()
    with Paho(broker, V5) as client:
        client.publish(topic, b"kept", qos=1, retain=True)
        expected = [(2, 0), (0, 1), (0, 1), (1, 0)]
        client.subscribe(topic, qos=1, retainHandling=2)
        for handling, copies in expected:
            client.subscribe(topic, qos=1, retainHandling=handling)
            client.publish(topic, b"end", qos=1)
            # The retained copy may come after the live message.
            payloads = sorted(message.payload for message in client.take(copies + 1))
            equal(payloads, [b"end", b"kept"][:copies + 1], f"with handling {handling}")
        client.unsubscribe(topic)
        client.subscribe(topic, qos=1, retainHandling=1)
        equal(client.take(1)[0].payload, b"kept", "new subscription, handling 1 [MQTT-3.3.1-10]")
        client.publish(topic, b"", qos=1, retain=True)


@case()
def retain_as_published(broker):
    topic = unique()
    with Paho(broker, V5) as keeps, Paho(broker, V5) as clears:
        keeps.subscribe(topic, qos=1, retainAsPublished=True)
        clears.subscribe(topic, qos=1)
        for retain in (True, False):
            clears.publish(topic, b"x", qos=1, retain=retain)
            equal(keeps.take(1)[0].retain, retain, "flag, as published [MQTT-3.3.1-13]")
            equal(clears.take(1)[0].retain, False, "flag, cleared [MQTT-3.3.1-12]")
        clears.publish(topic, b"", qos=1, retain=True)


def _delayed_will(broker, topic, client_id):
    will_props = properties("WILLMESSAGE", WillDelayInterval=2)
    will = {"topic": topic, "payload": client_id, "qos": 1, "properties": will_props}
    expiry = properties("CONNECT", SessionExpiryInterval=100)
    return Paho(broker, V5, client_id, clean=False, will=will, connect_properties=expiry)


@case()
def will_delay(broker):
    topic, back, gone = unique(), unique("b"), unique("g")
    with Paho(broker, V5) as witness:
        witness.subscribe(topic, qos=1)
        for client_id in (back, gone):
            with _delayed_will(broker, topic, client_id) as client:
                client.kill()
        # Neither will is out before its delay.
        witness.publish(topic, b"soon", qos=1)
        equal(witness.take_until(b"soon"), [], "wills before their delay")
        with Paho(broker, V5, back, clean=False) as client:
            check(client.session_present, "the session is gone")
            equal(witness.take(1)[0].payload, gone.encode(), "will of the one that stays away")
            witness.publish(topic, b"end", qos=1)
            equal(witness.take_until(b"end"), [], "will of the one that came back [MQTT-3.1.3-9]")
            client.stop()
    for client_id in (back, gone):
        Paho(broker, V5, client_id).stop()


@case()
def will_delay_ends_with_the_session(broker):
    topic, client_id = unique(), unique("g")
    will_props = properties("WILLMESSAGE", WillDelayInterval=1000)
    will = {"topic": topic, "payload": "gone", "qos": 1, "properties": will_props}
    with Paho(broker, V5) as witness:
        witness.subscribe(topic, qos=1)
        with Paho(broker, V5, client_id, will=will) as client:
            client.kill()
        # mosquitto 2.0.11 waits for the delay though the session ends with the connection.
        equal(witness.take(1)[0].payload, b"gone", "will at the end of the session [MQTT-3.1.3-9]")


@case()
def disconnect_with_will(broker):
    topic = unique()
    with Paho(broker, V5) as witness, Raw(broker, V5, will=(topic, "gone")) as client:
        witness.subscribe(topic, qos=1)
        client.send(frame(DISCONNECT, b"\x04\0"))
        equal(witness.take(1)[0].payload, b"gone", "will after DISCONNECT 0x04")


@case()
def maximum_packet_size(broker):
    topic = unique()
    limit = properties("CONNECT", MaximumPacketSize=200)
    with Paho(broker, V5, connect_properties=limit) as client, Paho(broker, V5) as publisher:
        client.subscribe(topic, qos=1)
        for qos in (0, 1, 2):
            publisher.publish(topic, b"x" * 1000, qos=qos)
        publisher.publish(topic, b"end", qos=1)
        equal(client.take_until(b"end"), [], "packets over the limit [MQTT-3.1.2-24]")


@case((1,), (2,))
def receive_maximum(broker, qos):
    topic = unique()
    window = 3
    with Raw(broker, V5, props=b"\x21" + struct.pack(">H", window)) as client:
        client.send(subscribe(V5, 1, topic, qos=2))
        client.expect(SUBACK)
        with Paho(broker, V5) as publisher:
            expected = [b"%d" % number for number in range(10)]
            publisher.publish_all(topic, expected, qos)
            # QoS 0 is not held back, so what precedes it is all that was sent.
            publisher.publish(topic, b"open", qos=0)
        got, pending = [], []
        while True:
            _, payload, level, packet_id = client.expect_publish()
            if level == 0:
                break
            got.append(payload)
            pending.append(packet_id)
        equal(got, expected[:window], "messages without acknowledgement [MQTT-3.3.4-9]")
        while len(got) < len(expected):
            packet_id = struct.pack(">H", pending.pop(0))
            # A PUBREC with an error ends a QoS 2 delivery as PUBACK ends one of QoS 1.
            refusal = frame(PUBREC, packet_id + b"\x80")
            client.send(frame(PUBACK, packet_id) if qos == 1 else refusal)
            _, payload, _, packet_id = client.expect_publish()
            got.append(payload)
            pending.append(packet_id)
        equal(got, expected, "messages in all")
        client.send(frame(PINGREQ))
        client.expect(PINGRESP)


@case()
def publishing_without_subscribers_is_acknowledged(broker):
    with Raw(broker, V5) as client:
        client.send(publish(V5, unique("nobody"), b"x", qos=1, packet_id=77))
        body = client.expect(PUBACK)[1]
        equal(body[:2], b"\0\x4d", "packet id")
        check(len(body) == 2 or body[2] in (0, 0x10), f"reason code {body[2:3]!r}")

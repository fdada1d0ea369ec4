"""What every client can do: each case runs for each tool and protocol version."""

from .harness import V5, Failed, case, check, equal, unique
from .mosquitto_tool import MosquittoTool
from .paho_tool import PahoTool

TOOLS = (MosquittoTool, PahoTool)
ALL = [(tool, version) for tool in TOOLS for version in tool.versions]
ALL_QOS = [(tool, version, qos) for tool, version in ALL for qos in (0, 1, 2)]
ALL_QUEUED = [(tool, version, qos) for tool, version in ALL for qos in (1, 2)]

COUNT = 1000
# Just below a mebibyte with its head, so that a limit of 1 MiB a packet admits it.
LARGE = bytes(range(256)) * 4096
LARGE = LARGE[:(1 << 20) - 64]


@case(*ALL_QOS)
def publish_subscribe(broker, tool, version, qos):
    topic = unique()
    with tool.subscriber(broker, version, topic, qos=qos) as subscriber:
        tool.publish(broker, version, topic, [b"hello"], qos)
        message = subscriber.take(1)[0]
        equal((message.topic, message.payload), (topic, b"hello"), "message")
        equal((message.qos, message.retain), (qos, False), "QoS and retain flag")


@case(*ALL)
def subscription_lowers_qos(broker, tool, version):
    topic = unique()
    with tool.subscriber(broker, version, topic, qos=1) as subscriber:
        for qos in (0, 1, 2):
            tool.publish(broker, version, topic, [b"%d" % qos], qos)
            message = subscriber.take(1)[0]
            equal((message.payload, message.qos), (b"%d" % qos, min(qos, 1)), "payload and QoS")


@case(*ALL_QOS)
def retained(broker, tool, version, qos):
    base = unique()
    topic, other = f"{base}/value", f"{base}/other"
    tool.publish(broker, version, topic, [b"old"], qos, retain=True)
    tool.publish(broker, version, topic, [b"new"], qos, retain=True)
    with tool.subscriber(broker, version, f"{base}/#", qos=qos) as late:
        message = late.take(1)[0]
        equal((message.topic, message.payload), (topic, b"new"), "retained message")
        equal((message.qos, message.retain), (qos, True), "QoS and retain flag")
        tool.publish(broker, version, topic, [b"live"], qos, retain=True)
        message = late.take(1)[0]
        equal((message.payload, message.retain), (b"live", False), "live copy")
        # An empty payload is passed on like any other, and nothing is kept.
        tool.publish(broker, version, topic, [b""], qos, retain=True)
        equal(late.take(1)[0].payload, b"", "live copy of the empty message")
    tool.publish(broker, version, other, [b"stays"], qos, retain=True)
    with tool.subscriber(broker, version, f"{base}/#", qos=qos) as later:
        equal(later.take(1)[0].payload, b"stays", "the only retained message")
        tool.publish(broker, version, other, [b"end"], qos)
        equal(later.take_until(b"end"), [], "after clearing")
    tool.publish(broker, version, other, [b""], qos, retain=True)


@case(*ALL_QOS)
def will(broker, tool, version, qos):
    topic = unique()
    last_will = {"topic": topic, "payload": "gone", "qos": qos}
    with tool.subscriber(broker, version, topic, qos=2) as witness:
        with tool.subscriber(broker, version, will=last_will) as victim:
            victim.kill()
        message = witness.take(1)[0]
        equal((message.topic, message.payload), (topic, b"gone"), "will")
        equal((message.qos, message.retain), (qos, False), "QoS and retain flag")


@case(*ALL)
def retained_will(broker, tool, version):
    topic = unique()
    last_will = {"topic": topic, "payload": "gone", "qos": 1, "retain": True}
    with tool.subscriber(broker, version, topic, qos=1) as witness:
        with tool.subscriber(broker, version, will=last_will) as victim:
            victim.kill()
        witness.take(1)
    with tool.subscriber(broker, version, topic, qos=1) as late:
        message = late.take(1)[0]
        equal((message.payload, message.retain), (b"gone", True), "retained will")
    tool.publish(broker, version, topic, [b""], retain=True)


@case(*[(PahoTool, version) for version in PahoTool.versions])
def no_will_after_disconnect(broker, tool, version):
    topic = unique()
    last_will = {"topic": topic, "payload": "gone", "qos": 1}
    with tool.subscriber(broker, version, topic, qos=1) as witness:
        with tool.subscriber(broker, version, will=last_will) as client:
            client.stop()
        tool.publish(broker, version, topic, [b"end"], 1)
        equal(witness.take_until(b"end"), [], "messages after an orderly end")


@case(*ALL_QUEUED)
def persistent_session(broker, tool, version, qos):
    topic, client_id = unique(), unique("s")
    expected = [b"%d" % number for number in range(20)]
    options = {"qos": qos, "client_id": client_id, "clean": False}
    with tool.subscriber(broker, version, topic, **options) as client:
        client.stop()
    tool.publish(broker, version, topic, expected, qos)
    with tool.subscriber(broker, version, topic, **options) as client:
        messages = client.take(len(expected))
        equal([message.payload for message in messages], expected, "queued messages")
        equal({message.qos for message in messages}, {qos}, "QoS")
        tool.publish(broker, version, topic, [b"live"], qos)
        equal(client.take(1)[0].payload, b"live", "live message after the queued ones")
        client.stop()
    # A clean session ends it, and nothing of it comes back.
    with tool.subscriber(broker, version, unique(), client_id=client_id) as client:
        client.stop()
    tool.publish(broker, version, topic, [b"lost"], qos)
    with tool.subscriber(broker, version, topic, **options) as client:
        tool.publish(broker, version, topic, [b"end"], qos)
        equal(client.take_until(b"end"), [], "messages of a session that was ended")
        client.stop()
    with tool.subscriber(broker, version, unique(), client_id=client_id) as client:
        client.stop()


@case(*ALL)
def wildcards(broker, tool, version):
    base = unique()
    published = [f"{base}/a", f"{base}/a/b", f"{base}/c/b", f"{base}/c/b/d", base, f"{base}/a/",
                 f"{base}//b"]
    matching = {
        f"{base}/+": [f"{base}/a"],
        f"{base}/+/b": [f"{base}/a/b", f"{base}/c/b", f"{base}//b"],
        f"{base}/#": published,
        f"{base}/a/#": [f"{base}/a", f"{base}/a/b", f"{base}/a/"],
        f"{base}/+/b/#": [f"{base}/a/b", f"{base}/c/b", f"{base}/c/b/d", f"{base}//b"],
        f"{base}/a/+": [f"{base}/a/b", f"{base}/a/"],
    }
    end = unique("end")
    subscribers = {}
    try:
        for item in matching:
            subscribers[item] = tool.subscriber(broker, version, item, end, qos=1)
        for topic in published:
            tool.publish(broker, version, topic, [topic.encode()], 1)
        tool.publish(broker, version, end, [b"end"], 1)
        for item, expected in matching.items():
            messages = subscribers[item].take_until(b"end")
            equal([message.topic for message in messages], expected, f"topics for {item}")
    finally:
        for subscriber in subscribers.values():
            subscriber.__exit__()


@case(*ALL)
def large_payload(broker, tool, version):
    topic = unique()
    for qos in (0, 1, 2):
        with tool.subscriber(broker, version, topic, qos=qos) as subscriber:
            tool.publish(broker, version, topic, [LARGE], qos)
            check(subscriber.take(1)[0].payload == LARGE, f"payload changed at QoS {qos}")


@case(*ALL_QOS)
def a_thousand_in_order(broker, tool, version, qos):
    # At QoS 2 mosquitto 2.0.11 now and then sends nothing more after the last PUBCOMP.
    topic = unique()
    expected = [b"%d" % number for number in range(COUNT)]
    with tool.subscriber(broker, version, topic, qos=qos) as subscriber:
        tool.publish(broker, version, topic, expected, qos)
        payloads = [message.payload for message in subscriber.take(COUNT)]
        if payloads != expected:
            wrong = next(i for i, pair in enumerate(zip(payloads, expected)) if pair[0] != pair[1])
            raise Failed(f"order breaks at {wrong}: {payloads[wrong:wrong + 5]}")


@case(*[(MosquittoTool, V5)])
def user_properties_from_the_command_line(broker, tool, version):
    topic = unique()
    with PahoTool.subscriber(broker, version, topic) as subscriber:
        tool.publish(broker, version, topic, [b"x"], extra=(
            "-D", "publish", "user-property", "key", "one",
            "-D", "publish", "user-property", "key", "two",
            "-D", "publish", "content-type", "text/plain"))
        props = subscriber.take(1)[0].properties
        equal(props.UserProperty, [("key", "one"), ("key", "two")], "user properties")
        equal(props.ContentType, "text/plain", "content type")

"""paho-mqtt, in this process."""

import queue
import socket
import threading

from paho.mqtt.client import CallbackAPIVersion, Client
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from .harness import LIMIT_S, V5, V31, V311, Failed, Inbox, Message, check, unique


def properties(kind, **values):
    """Properties of a packet, by paho's names without spaces."""
    result = Properties(getattr(PacketTypes, kind))
    for name, value in values.items():
        setattr(result, name, value)
    return result


class Paho:
    """A connected client with what it received."""

    def __init__(self, broker, version, client_id=None, clean=True, keep_alive=60, will=None,
                 connect_properties=None, refused=False):
        self.version = version
        self.inbox = Inbox()
        self._subacks = queue.Queue()
        self._unsubacks = queue.Queue()
        self._connacks = queue.Queue()
        self._gone = threading.Event()
        self.gone_code = None
        self.client_id = unique("c") if client_id is None else client_id
        options = {} if version == V5 else {"clean_session": clean}
        self.client = Client(CallbackAPIVersion.VERSION2, self.client_id, protocol=version,
                             reconnect_on_failure=False,
                             transport="websockets" if broker.websocket else "tcp", **options)
        if broker.cafile:
            self.client.tls_set(ca_certs=broker.cafile)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = self._on_message
        self.client.on_subscribe = lambda _c, _u, _mid, codes, _p: self._subacks.put(codes)
        self.client.on_unsubscribe = lambda _c, _u, _mid, codes, _p: self._unsubacks.put(codes)
        if will:
            self.client.will_set(**will)
        extra = {"clean_start": clean, "properties": connect_properties} if version == V5 else {}
        self.client.connect(broker.host, broker.port, keepalive=keep_alive, **extra)
        self.client.loop_start()
        self.session_present, self.connack, self.connack_properties = self._wait(self._connacks,
                                                                                 "CONNACK")
        if not refused:
            check(not self.connack.is_failure, f"connection refused: {self.connack}")

    def _on_connect(self, _client, _userdata, flags, code, props):
        self._connacks.put((flags.session_present, code, props))

    def _on_disconnect(self, _client, _userdata, _flags, code, _props):
        self.gone_code = code
        self._gone.set()

    def _on_message(self, _client, _userdata, message):
        self.inbox.put(Message(message.topic, message.payload, message.qos, bool(message.retain),
                               getattr(message, "properties", None)))

    @staticmethod
    def _wait(waiting, what):
        try:
            return waiting.get(timeout=LIMIT_S)
        except queue.Empty:
            raise Failed(f"no {what}") from None

    def subscribe(self, *filters, qos=0, identifier=None, **options):
        """Subscribes with one packet and returns the codes of the SUBACK."""
        if self.version == V5:
            topics = [(item, SubscribeOptions(qos=qos, **options)) for item in filters]
            props = identifier and properties("SUBSCRIBE", SubscriptionIdentifier=identifier)
            self.client.subscribe(topics, properties=props)
        else:
            self.client.subscribe([(item, qos) for item in filters])
        return [code.value for code in self._wait(self._subacks, "SUBACK")]

    def unsubscribe(self, *filters):
        self.client.unsubscribe(list(filters))
        self._wait(self._unsubacks, "UNSUBACK")

    def publish(self, topic, payload, qos=0, retain=False, **props):
        """Publishes, and waits for the last acknowledgement."""
        kinds = properties("PUBLISH", **props) if props else None
        sent = self.client.publish(topic, payload, qos, retain, kinds)
        sent.wait_for_publish(LIMIT_S)
        check(sent.is_published(), f"QoS {qos} publish on {topic} was not acknowledged")

    def publish_all(self, topic, payloads, qos):
        sent = [self.client.publish(topic, payload, qos) for payload in payloads]
        for one in sent:
            one.wait_for_publish(LIMIT_S)
        check(all(one.is_published() for one in sent), "not all were acknowledged")

    def take(self, count):
        return self.inbox.take(count)

    def take_until(self, payload):
        return self.inbox.take_until(payload)

    def wait_gone(self):
        """Waits until the connection is lost and returns the reason code, if there was one."""
        check(self._gone.wait(LIMIT_S), "the connection was not closed")
        return self.gone_code.value

    def is_gone(self):
        return self._gone.is_set()

    def stop(self, **props):
        """Disconnects in order."""
        kinds = properties("DISCONNECT", **props) if props else None
        if self.version == V5:
            self.client.disconnect(properties=kinds)
        else:
            self.client.disconnect()
        check(self._gone.wait(LIMIT_S), "could not disconnect")
        self.client.loop_stop()

    def kill(self):
        """Loses the connection without DISCONNECT."""
        connection = self.client.socket()
        # What it puts around a socket for WebSocket cannot be shut down, the socket can.
        connection = getattr(connection, "_socket", connection)
        if connection is not None:
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self._gone.wait(LIMIT_S)
        self.client.loop_stop()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        if not self._gone.is_set():
            self.client.disconnect()
        self.client.loop_stop()


class PahoTool:
    """What all tools can do, done with paho-mqtt."""

    name = "paho"
    versions = (V31, V311, V5)

    @staticmethod
    def subscriber(broker, version, *filters, qos=0, client_id=None, clean=True, will=None):
        extra = {}
        if version == V5 and not clean:
            extra["connect_properties"] = properties("CONNECT", SessionExpiryInterval=3600)
        client = Paho(broker, version, client_id, clean, will=will, **extra)
        if filters:
            client.subscribe(*filters, qos=qos)
        return client

    @staticmethod
    def publish(broker, version, topic, payloads, qos=0, retain=False):
        with Paho(broker, version) as client:
            if retain:
                for payload in payloads:
                    client.publish(topic, payload, qos, retain)
            else:
                client.publish_all(topic, payloads, qos)
            client.stop()

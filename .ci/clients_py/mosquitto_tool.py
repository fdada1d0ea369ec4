"""mosquitto_pub and mosquitto_sub, as processes of their own."""

import subprocess
import threading

from .harness import LIMIT_S, V5, V31, V311, Failed, Inbox, Message, Skipped, check, unique

_VERSIONS = {V31: "mqttv31", V311: "mqttv311", V5: "mqttv5"}
_MARK = "MESSAGE"


def _door(broker):
    """How to get in; these programs have no WebSocket."""
    if broker.websocket:
        raise Skipped("no WebSocket")
    return ["--cafile", broker.cafile] if broker.cafile else []


class MosquittoSub:
    """A running mosquitto_sub with what it printed."""

    def __init__(self, broker, version, filters, qos, client_id, clean, will):
        self.inbox = Inbox()
        self.client_id = client_id or unique("m")
        self._ready = threading.Event()
        self._ended = False
        self._log = []
        # Debug output tells when the subscription stands; line buffering, when it happens.
        command = ["stdbuf", "-oL", "mosquitto_sub", "-d", "-h", broker.host, "-p",
                   str(broker.port), "-V", _VERSIONS[version], "-i", self.client_id, "-q", str(qos),
                   "-F", f"{_MARK} %q %r %t %x", *_door(broker)]
        for item in filters:
            command += ["-t", item]
        if not clean:
            command.append("-c")
        if will:
            command += ["--will-topic", will["topic"], "--will-payload", will["payload"],
                        "--will-qos", str(will.get("qos", 0))]
            command += ["--will-retain"] if will.get("retain") else []
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(LIMIT_S) or self._ended:
            self.kill()
            raise Failed(f"mosquitto_sub has no SUBACK: {self._log[-3:]}")

    def _read(self):
        for line in self._process.stdout:
            if line.startswith(_MARK):
                _, qos, retain, topic, *payload = line.split()
                payload = bytes.fromhex(payload[0]) if payload else b""
                self.inbox.put(Message(topic, payload, int(qos), retain == "1"))
            else:
                self._log.append(line.strip())
                if line.startswith("Subscribed"):
                    self._ready.set()
        self._ended = not self._ready.is_set()
        self._ready.set()

    def take(self, count):
        return self.inbox.take(count)

    def take_until(self, payload):
        return self.inbox.take_until(payload)

    def stop(self):
        """Ends the process; it disconnects if it still can."""
        self._process.terminate()
        self._reap()

    def kill(self):
        """Loses the connection without DISCONNECT."""
        self._process.kill()
        self._reap()

    def _reap(self):
        try:
            self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(LIMIT_S)
        self._process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        if self._process.poll() is None:
            self.kill()


class MosquittoTool:
    """What all tools can do, done with mosquitto's own clients."""

    name = "mosquitto"
    versions = (V31, V311, V5)

    @staticmethod
    def subscriber(broker, version, *filters, qos=0, client_id=None, clean=True, will=None):
        # It cannot connect without subscribing.
        filters = filters or (unique("nothing"),)
        return MosquittoSub(broker, version, filters, qos, client_id, clean, will)

    @staticmethod
    def publish(broker, version, topic, payloads, qos=0, retain=False, extra=()):
        command = ["mosquitto_pub", "-h", broker.host, "-p", str(broker.port), "-V",
                   _VERSIONS[version], "-i", unique("p"), "-t", topic, "-q", str(qos), *_door(broker),
                   *extra]
        if retain:
            command.append("-r")
        if len(payloads) > 1:
            # A line a message.
            command.append("-l")
            stdin = b"".join(payload + b"\n" for payload in payloads)
        else:
            # -n is an empty message, -s one message from standard input.
            command.append("-s" if payloads[0] else "-n")
            stdin = payloads[0]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=3 * LIMIT_S,
                              check=False)
        check(done.returncode == 0, f"mosquitto_pub failed: {done.stderr.decode().strip()}")

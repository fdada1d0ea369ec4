#!/usr/bin/env python3
"""Every kind of identity by every door, with paho-mqtt on a running broker.

Takes the ports of its listeners: tcp, ws, tls and wss; then the folder with the certificates, and
USER=PASSWORD of somebody of each kind. TLS listeners take a certificate and ask for none. Each user
may use own/USER/#. Prints a line for what fails and a sum; the exit code is 1 if something failed.
"""

import queue
import ssl
import sys

import paho.mqtt.client as paho

LIMIT_S = 20
DOORS = ["tcp", "ws", "tls", "wss"]


def come(version, door, port, folder, user, password, has_certificate):
    """Connects, sends a message to itself and takes it; what went wrong, or nothing."""
    events = queue.Queue()
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2,
        protocol=version,
        transport="websockets" if door.startswith("ws") else "tcp",
    )
    if door in ("tls", "wss"):
        context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
        if has_certificate:
            context.load_cert_chain(f"{folder}/device.pem", f"{folder}/device.key")
        client.tls_set_context(context)
    if password is not None:
        client.username_pw_set(user, password)
    client.on_connect = lambda _c, _u, _f, code, _p: events.put(("connect", str(code)))
    client.on_subscribe = lambda _c, _u, _i, codes, _p: events.put(("subscribe", str(codes[0])))
    client.on_message = lambda _c, _u, message: events.put(("message", message.payload.decode()))

    def step(kind, wanted):
        got = events.get(timeout=LIMIT_S)
        if got[0] != kind or not got[1].startswith(wanted):
            raise ValueError(f"{got} in place of {kind} {wanted}")

    client.connect("localhost", port)
    client.loop_start()
    try:
        step("connect", "Success")
        topic = f"own/{user}/{door}"
        client.subscribe(topic, qos=1)
        step("subscribe", "Granted QoS 1")
        client.publish(topic, "hello", qos=1)
        step("message", "hello")
        return ""
    except queue.Empty:
        return "nothing more came"
    except ValueError as error:
        return str(error)
    finally:
        client.disconnect()
        client.loop_stop()


def main(tcp, ws, tls, wss, folder, *people):
    ports = dict(zip(DOORS, map(int, [tcp, ws, tls, wss])))
    passed = failed = 0

    def note(why, is_refused, *case):
        nonlocal passed, failed
        is_right = is_refused == why.startswith("('connect'")
        passed += is_right
        failed += not is_right
        if not is_right:
            print("FAILED", *case, why or "was let in")

    for version in (paho.MQTTv311, paho.MQTTv5):
        for door, port in ports.items():
            for person in people:
                user, _, password = person.partition("=")
                who = (folder, user)
                why = come(version, door, port, *who, password, False)
                note(why, False, version, door, user)
                why = come(version, door, port, *who, password + "x", False)
                note(why, True, version, door, user, "with a wrong password")
            why = come(version, door, port, folder, "device-7", None, door in ("tls", "wss"))
            note(why, door in ("tcp", "ws"), version, door, "by certificate")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0)


main(*sys.argv[1:])

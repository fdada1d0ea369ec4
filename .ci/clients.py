#!/usr/bin/env python3
"""Tries third-party clients on a running broker.

Needs mosquitto_pub and mosquitto_sub (Debian: mosquitto-clients) and paho-mqtt (PyPI). Starts no
broker. Prints a line a case and a line with the sum; the exit code is 1 if a case failed.
"""

import argparse
import sys

from clients_py import harness
from clients_py import cases_common, cases_raw, cases_sessions, cases_v5  # noqa: F401


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--jobs", type=int, default=4, help="cases at the same time")
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--cafile", help="speak TLS with a broker whose certificate is from here")
    parser.add_argument("--websocket", action="store_true",
                        help="speak over WebSocket; only paho-mqtt does")
    options = parser.parse_args()
    broker = harness.Broker(options.host, options.port, options.cafile, options.websocket)
    sys.exit(1 if harness.run(broker, options.only, options.jobs) else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Acknowledged QoS 1 publishes a second of axmq with each durability, and of mosquitto with its
persistence, for one subscriber whose session is kept: away, or there. A fresh broker for each row, on
one core; the generator (bench-store acks) on another. Then group commits of the same messages on the
same disk with no broker in between. Standard library only.

    cargo build --release -p axmq && (cd benches && cargo build --release -p bench-store)
    benches/store/acks.py target/release/axmq benches/target/release/bench-store
    benches/store/acks.py AXMQ BENCH --only axmq --in-flight 8x64 --seconds 5
"""

import argparse
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

AXMQ = """[[listener]]
address = "127.0.0.1:{port}"
[broker]
data_dir = "{data}"
shards = 1
[store]
durability = "{how}"
[limits]
session_queue_messages = 100000000
session_queue_bytes = 100000000000
"""

MOSQUITTO = """listener {port} 127.0.0.1
allow_anonymous true
log_type error
max_queued_messages 0
max_inflight_messages {inflight}
{how}
"""

KINDS = {
    ("axmq", "none"): "none",
    ("axmq", "interval"): "interval",
    ("axmq", "always"): "always",
    ("mosquitto", "no persistence"): "persistence false",
    ("mosquitto", "once a second"):
        "persistence true\npersistence_location {data}/\nautosave_interval 1",
    ("mosquitto", "on change"):
        "persistence true\npersistence_location {data}/\n"
        "autosave_on_changes true\nautosave_interval 1",
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit("the broker does not listen")


def measure(options, broker, how, mode, publishers, window):
    home = pathlib.Path(tempfile.mkdtemp(dir=options.dir))
    data = home / "data"
    data.mkdir()
    if broker == "mosquitto":
        # As root it would become another user, who may not write here.
        shutil.chown(home, "mosquitto")
        shutil.chown(data, "mosquitto")
        home.chmod(0o755)
    port = free_port()
    text = KINDS[broker, how].format(data=data)
    if broker == "axmq":
        text = AXMQ.format(port=port, data=data, how=text)
        command = [options.axmq, "--config"]
    else:
        text = MOSQUITTO.format(port=port, how=text, inflight=20)
        command = ["mosquitto", "-c"]
    config = home / "broker.conf"
    config.write_text(text)
    pin = ["taskset", "-c", str(options.broker_cpu)]
    log = open(home / "log", "w", encoding="utf-8")
    process = subprocess.Popen(pin + command + [str(config)], stdout=log, stderr=log)
    try:
        wait_for(port)
        load = [options.bench, "acks", port, process.pid, data, mode, publishers, window,
                options.rate, options.seconds]
        run = ["taskset", "-c", options.load_cpu] + load
        done = subprocess.run([str(word) for word in run], capture_output=True, text=True)
        answer = (done.stdout or done.stderr).strip()
        print(f"{broker:9} {how:14} {mode:7} {publishers:>3} x {window:<3} {answer}", flush=True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(home)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axmq")
    parser.add_argument("bench")
    parser.add_argument("--dir", default=".", help="a folder on the disk that is measured")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rate", type=float, default=0, help="publishes a second; 0: all that go")
    parser.add_argument("--in-flight", default="1x1,8x8,8x64", help="publishers x window")
    parser.add_argument("--only", default="axmq,mosquitto,bare")
    parser.add_argument("--how", default="", help="only these durabilities")
    parser.add_argument("--modes", default="offline,online")
    parser.add_argument("--broker-cpu", default="0")
    parser.add_argument("--load-cpu", default="1")
    options = parser.parse_args()
    options.dir = str(pathlib.Path(options.dir).resolve())
    loads = [[int(n) for n in load.split("x")] for load in options.in_flight.split(",")]
    only = options.only.split(",")
    for mode in options.modes.split(","):
        for publishers, window in loads:
            for broker, how in KINDS:
                if broker in only and (not options.how or how in options.how.split(",")):
                    measure(options, broker, how, mode, publishers, window)
    for kind in ("file", "fjall") if "bare" in only else ():
        for publishers, window in loads:
            home = tempfile.mkdtemp(dir=options.dir)
            run = ["taskset", "-c", options.broker_cpu, options.bench, "group", kind,
                   f"{home}/bare", str(publishers * window), str(options.seconds)]
            subprocess.run(run, check=True)
            shutil.rmtree(home)


if __name__ == "__main__":
    main()

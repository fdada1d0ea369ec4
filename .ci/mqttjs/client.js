// MQTT.js behind a few calls: connect, subscribe, publish, take what came, vanish, come back.
"use strict";

const mqtt = require("mqtt");

// How long anything may take that must happen. Generous: it only shows when it fails.
const LIMIT_MS = 10_000;

const VERSIONS = { 3.1: 3, "3.1.1": 4, "5.0": 5 };

const run = process.pid.toString(36);
let numbers = 0;

// A name that no other case and no other run uses; short enough for a client id of 3.1.
function unique(prefix = "t") {
  numbers += 1;
  return `${prefix}${run}x${numbers}`;
}

// What comes of `promise`, or an error if nothing does within the limit.
async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function event(emitter, name) {
  return within(new Promise((resolve) => emitter.once(name, resolve)), name);
}

// A client with what it received, in the order in which it came.
class Client {
  #inbox = [];
  // What is under way, which by default would not outlive the connection.
  #stores;
  #wake = () => {};

  // `persistent` keeps the session; `options` are those of MQTT.js.
  static async open(broker, version, { persistent = false, ...options } = {}) {
    const level = VERSIONS[version];
    const settings = {
      ...broker,
      protocolVersion: level,
      protocolId: level === 3 ? "MQIsdp" : "MQTT",
      clientId: unique("j"),
      clean: !persistent,
      // It comes back when a case says so, and what it subscribed to is for the broker to know.
      reconnectPeriod: 0,
      resubscribe: false,
      ...options,
    };
    if (level === 5 && persistent) {
      settings.properties = { sessionExpiryInterval: 3600, ...settings.properties };
    }
    const client = new Client();
    client.#stores = {
      incomingStore: new mqtt.Store({ clean: false }),
      outgoingStore: new mqtt.Store({ clean: false }),
    };
    client.mqtt = mqtt.connect({ ...settings, ...client.#stores });
    client.level = level;
    client.mqtt.on("message", (topic, payload, packet) => {
      const { qos, retain, dup, properties } = packet;
      client.#inbox.push({ topic, text: payload.toString(), payload, qos, retain, dup, properties });
      client.#wake();
    });
    client.connack = await client.#connected();
    return client;
  }

  async #connected() {
    const failed = new Promise((_, reject) => this.mqtt.once("error", reject));
    failed.catch(() => {});
    return within(Promise.race([event(this.mqtt, "connect"), failed]), "CONNACK");
  }

  // Returns the codes of the SUBACK.
  async subscribe(filters, options = { qos: 0 }) {
    const granted = await within(this.mqtt.subscribeAsync(filters, options), "SUBACK");
    return granted.map((one) => one.qos);
  }

  unsubscribe(filters) {
    return within(this.mqtt.unsubscribeAsync(filters), "UNSUBACK");
  }

  // Resolves after the last acknowledgement, with QoS 0 once it is written.
  publish(topic, payload, options = { qos: 0 }) {
    return within(this.mqtt.publishAsync(topic, payload, options), `end of a publish to ${topic}`);
  }

  // The next `count` messages.
  async take(count) {
    const enough = (async () => {
      while (this.#inbox.length < count) {
        await new Promise((resolve) => (this.#wake = resolve));
      }
    })();
    try {
      await within(enough, "more messages");
    } catch (error) {
      throw new Error(`${this.#inbox.length} of ${count} messages came: ${error.message}`);
    }
    return this.#inbox.splice(0, count);
  }

  // All messages before the first that says `text`, which is taken, too.
  async takeUntil(text) {
    const taken = [];
    for (;;) {
      const [message] = await this.take(1);
      if (message.text === text) return taken;
      taken.push(message);
    }
  }

  // How many messages came that nobody took.
  get waiting() {
    return this.#inbox.length;
  }

  // Loses the connection without a DISCONNECT.
  async vanish() {
    const closed = event(this.mqtt, "close");
    this.mqtt.stream.destroy();
    await closed;
  }

  // Connects again, with the same options.
  async comeBack() {
    const connected = this.#connected();
    this.mqtt.reconnect(this.#stores);
    this.connack = await connected;
  }

  // Disconnects in order.
  stop() {
    return within(this.mqtt.endAsync(), "end of the connection");
  }

  kill() {
    this.mqtt.end(true);
  }
}

module.exports = { Client, VERSIONS, unique };

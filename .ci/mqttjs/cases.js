// What is tried. Each case gets a way to open clients, which are closed behind it, and a version.
"use strict";

const assert = require("node:assert/strict");

const { unique } = require("./client.js");

const QOS = [0, 1, 2];
const EVERY = ["3.1", "3.1.1", "5.0"];
const NEWER = ["3.1.1", "5.0"];
const texts = (messages) => messages.map((message) => message.text);
const numbered = (count) => Array.from({ length: count }, (_, number) => String(number));

async function publishSubscribe(open, version) {
  const client = await open(version);
  for (const subscribed of QOS) {
    const topic = unique();
    assert.deepEqual(await client.subscribe(topic, { qos: subscribed }), [subscribed]);
    for (const published of QOS) {
      await client.publish(topic, "hello", { qos: published });
      const [message] = await client.take(1);
      assert.deepEqual([message.topic, message.text], [topic, "hello"]);
      assert.equal(message.qos, Math.min(published, subscribed), "the lower QoS");
      assert.equal(message.retain, false, "retain flag of a live message");
    }
    await client.unsubscribe(topic);
    await client.publish(topic, "late", { qos: 1 });
  }
  assert.equal(client.waiting, 0, "messages after UNSUBACK");
}

async function manyInOrder(open, version) {
  const [subscriber, publisher] = [await open(version), await open(version)];
  const expected = numbered(1000);
  for (const qos of QOS) {
    const topic = unique();
    await subscriber.subscribe(topic, { qos });
    await Promise.all(expected.map((text) => publisher.publish(topic, text, { qos })));
    assert.deepEqual(texts(await subscriber.take(1000)), expected, `QoS ${qos}`);
  }
}

async function largePayload(open, version) {
  const client = await open(version);
  // Just below a mebibyte with its head, so that a limit of 1 MiB a packet admits it.
  const large = Buffer.alloc((1 << 20) - 64, "0123456789abcdef");
  for (const qos of QOS) {
    const topic = unique();
    await client.subscribe(topic, { qos });
    await client.publish(topic, large, { qos });
    const [message] = await client.take(1);
    assert.ok(large.equals(message.payload), `the payload changed at QoS ${qos}`);
  }
}

async function retained(open, version) {
  const publisher = await open(version);
  for (const qos of QOS) {
    const base = unique();
    const topic = `${base}/value`;
    await publisher.publish(topic, "old", { qos, retain: true });
    await publisher.publish(topic, "new", { qos, retain: true });
    // QoS 0 is not acknowledged; a round trip tells that it has arrived.
    await publisher.subscribe(unique());
    const late = await open(version);
    await late.subscribe(`${base}/#`, { qos });
    const [message] = await late.take(1);
    assert.deepEqual([message.topic, message.text], [topic, "new"]);
    assert.deepEqual([message.qos, message.retain], [qos, true]);
    await publisher.publish(topic, "", { qos, retain: true });
    assert.deepEqual(texts(await late.take(1)), [""], "the message that clears");
    const later = await open(version);
    await later.subscribe(`${base}/#`, { qos });
    await publisher.publish(topic, "end", { qos });
    assert.deepEqual(await later.takeUntil("end"), [], "retained after clearing");
  }
}

async function will(open, version) {
  const witness = await open(version);
  for (const qos of QOS) {
    const topic = unique();
    await witness.subscribe(topic, { qos });
    const options = { will: { topic, payload: "gone", qos, retain: true } };
    const victim = await open(version, options);
    await victim.vanish();
    const [message] = await witness.take(1);
    assert.deepEqual([message.topic, message.text, message.qos], [topic, "gone", qos]);
    const late = await open(version);
    await late.subscribe(topic, { qos });
    assert.deepEqual((await late.take(1))[0].retain, true, "the will is retained");
    await witness.publish(topic, "", { qos: 1, retain: true });
    assert.equal((await witness.take(1))[0].text, "");
    const polite = await open(version, options);
    await polite.stop();
    await witness.publish(topic, "end", { qos: 1 });
    assert.deepEqual(await witness.takeUntil("end"), [], "a will after DISCONNECT");
  }
}

async function persistentSession(open, version) {
  const publisher = await open(version);
  for (const qos of [1, 2]) {
    const topic = unique();
    const client = await open(version, { persistent: true });
    assert.equal(client.connack.sessionPresent, false, "session present at first");
    await client.subscribe(topic, { qos });
    await client.vanish();
    const expected = numbered(100);
    await Promise.all(expected.map((text) => publisher.publish(topic, text, { qos })));
    await client.comeBack();
    if (version !== "3.1") {
      assert.equal(client.connack.sessionPresent, true, "session present after coming back");
    }
    assert.deepEqual(texts(await client.take(100)), expected, `queued at QoS ${qos}`);
    // What was published while connected again is behind it, and nothing came twice.
    await publisher.publish(topic, "end", { qos });
    assert.deepEqual(await client.takeUntil("end"), []);
    await client.stop();
    const anew = await open(version, { clientId: client.mqtt.options.clientId });
    assert.equal(anew.connack.sessionPresent, false, "session present after a clean start");
    await publisher.publish(topic, "nobody", { qos });
    await anew.subscribe(topic, { qos });
    await publisher.publish(topic, "end", { qos });
    assert.deepEqual(await anew.takeUntil("end"), [], "what the old session would have kept");
  }
}

// The PUBCOMP for a PUBREL that came again, section 3.7.2.1: no error during recovery, though
// MQTT.js takes it for one.
function known(error) {
  if (error.code !== 0x92) throw error;
}

// MQTT.js keeps what it has not seen acknowledged, and sends it again by itself.
async function publisherComesBack(open, version) {
  const subscriber = await open(version);
  for (const qos of [1, 2]) {
    const topic = unique();
    await subscriber.subscribe(topic, { qos });
    const publisher = await open(version, { persistent: true });
    const expected = numbered(200);
    const sent = expected.map((text) => publisher.publish(topic, text, { qos }).catch(known));
    // Some are acknowledged, some have arrived, some are still to be sent.
    await sent[20];
    await publisher.vanish();
    await publisher.comeBack();
    await Promise.all(sent);
    await publisher.publish(topic, "end", { qos });
    const got = texts(await subscriber.takeUntil("end"));
    if (qos === 2) {
      assert.deepEqual(got, expected, "exactly once, in order");
    } else {
      const first = got.filter((text, at) => got.indexOf(text) === at);
      assert.deepEqual(first, expected, "at least once, in order");
    }
    await publisher.stop();
  }
}

async function wildcards(open, version) {
  const base = unique();
  const matching = {
    [`${base}/+/c`]: ["a/c", "b/c"],
    [`${base}/a/#`]: ["a", "a/b", "a/b/c", "a/c"],
    [`${base}/+`]: ["a"],
    [`${base}/+/+/c`]: ["a/b/c"],
    [`${base}/a/b`]: ["a/b"],
  };
  const topics = ["a", "a/b", "a/b/c", "a/c", "b/c", "b/c/d"];
  const publisher = await open(version);
  for (const [filter, expected] of Object.entries(matching)) {
    const client = await open(version);
    await client.subscribe([filter, `${base}-end`], { qos: 1 });
    for (const topic of topics) {
      await publisher.publish(`${base}/${topic}`, topic, { qos: 1 });
    }
    await publisher.publish(`${base}-end`, "end", { qos: 1 });
    assert.deepEqual(texts(await client.takeUntil("end")).sort(), expected, filter);
  }
}

async function sharedSubscription(open, version) {
  const topic = unique();
  const group = `$share/${unique("g")}/${topic}/+`;
  const members = [await open(version), await open(version), await open(version)];
  for (const member of members) {
    assert.deepEqual(await member.subscribe(group, { qos: 1 }), [1]);
    assert.deepEqual(await member.subscribe(`${topic}-end`, { qos: 1 }), [1]);
  }
  const publisher = await open(version);
  const expected = numbered(300);
  await Promise.all(expected.map((text) => publisher.publish(`${topic}/x`, text, { qos: 1 })));
  await publisher.publish(`${topic}-end`, "end", { qos: 1 });
  // Each message to one member, and something to each of them.
  const got = [];
  for (const member of members) {
    const own = texts(await member.takeUntil("end"));
    assert.ok(own.length > 0, "a member got nothing");
    got.push(...own);
  }
  assert.deepEqual(got.map(Number).sort((a, b) => a - b).map(String), expected);
}

async function userProperties(open, version) {
  const topic = unique();
  const client = await open(version, { properties: { userProperties: { from: "MQTT.js" } } });
  await client.subscribe(topic, { qos: 1 });
  const properties = {
    userProperties: { plain: "value", twice: ["first", "second"], "ключ": "значение" },
    contentType: "text/plain",
    responseTopic: `${topic}/answer`,
    correlationData: Buffer.from([0, 1, 2, 255]),
    payloadFormatIndicator: true,
    messageExpiryInterval: 100,
  };
  for (const qos of QOS) {
    await client.publish(topic, "x", { qos, properties });
    const [{ properties: got }] = await client.take(1);
    assert.deepEqual({ ...got.userProperties }, properties.userProperties);
    assert.equal(got.contentType, properties.contentType);
    assert.equal(got.responseTopic, properties.responseTopic);
    assert.ok(got.correlationData.equals(properties.correlationData));
    assert.equal(got.payloadFormatIndicator, true);
    assert.ok(got.messageExpiryInterval <= 100 && got.messageExpiryInterval > 80);
  }
}

async function subscriptionIdentifiers(open, version) {
  const base = unique();
  const client = await open(version);
  const subscribe = (filter, subscriptionIdentifier) =>
    client.subscribe(filter, { qos: 1, properties: { subscriptionIdentifier } });
  await subscribe(`${base}/+`, 7);
  await subscribe(`${base}/#`, 268_435_455);
  await subscribe(`${base}-end`, 1);
  await client.publish(`${base}/a`, "x", { qos: 1 });
  await client.publish(`${base}-end`, "end", { qos: 1 });
  const copies = await client.takeUntil("end");
  // One copy with both, or one for each subscription [MQTT-3.3.4-4, MQTT-3.3.4-5].
  const identifiers = copies.flatMap((copy) => copy.properties.subscriptionIdentifier);
  assert.deepEqual(identifiers.sort((a, b) => a - b), [7, 268_435_455]);
}

async function subscriptionOptions(open, version) {
  const topic = unique();
  const [client, other] = [await open(version), await open(version)];
  await other.publish(topic, "kept", { qos: 1, retain: true });
  // No local, retain as published, nothing retained upon subscribing.
  await client.subscribe(topic, { qos: 1, nl: true, rap: true, rh: 2 });
  await client.publish(topic, "own", { qos: 1 });
  await other.publish(topic, "flagged", { qos: 1, retain: true });
  const [message] = await client.take(1);
  assert.deepEqual([message.text, message.retain], ["flagged", true]);
  await other.publish(topic, "", { qos: 1, retain: true });
}

// The client sets aliases up by itself, and takes those of the broker apart by itself.
async function topicAliases(open, version) {
  const publisher = await open(version, { autoAssignTopicAlias: true });
  const subscriber = await open(version, { properties: { topicAliasMaximum: 4 } });
  const topics = Array.from({ length: 8 }, () => unique("alias"));
  await subscriber.subscribe(topics, { qos: 1 });
  for (let round = 0; round < 3; round += 1) {
    for (const topic of topics) {
      await publisher.publish(topic, topic, { qos: 1 });
    }
  }
  for (const message of await subscriber.take(24)) {
    assert.equal(message.topic, message.text);
  }
}

module.exports = [
  [publishSubscribe, EVERY],
  [manyInOrder, EVERY],
  [largePayload, EVERY],
  [retained, EVERY],
  [will, EVERY],
  [persistentSession, EVERY],
  [publisherComesBack, NEWER],
  [wildcards, EVERY],
  [sharedSubscription, NEWER],
  [userProperties, ["5.0"]],
  [subscriptionIdentifiers, ["5.0"]],
  [subscriptionOptions, ["5.0"]],
  [topicAliases, ["5.0"]],
];

// Tries MQTT.js on a running broker: node main.js HOST PORT [PART OF A NAME], or with a URL such as
// wss://localhost:8084/mqtt in place of the host; its certificates are then those of $MQTT_CA.
//
// Prints a line a case and a line with the sum; the exit code is 1 if a case failed. MQTT.js is
// found by NODE_PATH.
"use strict";

const fs = require("node:fs");

const cases = require("./cases.js");
const { Client } = require("./client.js");

async function attempt(broker, run, version) {
  const clients = [];
  const open = async (...options) => {
    const client = await Client.open(broker, ...options);
    clients.push(client);
    return client;
  };
  try {
    await run(open, version);
    return "";
  } catch (error) {
    return `: ${error.stack}`;
  } finally {
    clients.forEach((client) => client.kill());
  }
}

// Where the broker is, as MQTT.js wants to know it.
function place(host, port) {
  if (!host.includes("://")) return { host, port: Number(port) };
  const url = new URL(host);
  const ca = process.env.MQTT_CA && fs.readFileSync(process.env.MQTT_CA);
  return {
    protocol: url.protocol.slice(0, -1),
    host: url.hostname,
    port: Number(url.port),
    path: url.pathname,
    ...(ca && { ca }),
  };
}

async function main([host = "127.0.0.1", port = "1883", part = ""]) {
  const all = cases.flatMap(([run, versions]) => versions.map((version) => [run, version]));
  const chosen = all.filter(([run]) => run.name.includes(part));
  let failed = 0;
  for (const [run, version] of chosen) {
    const why = await attempt(place(host, port), run, version);
    failed += why !== "";
    console.log(`${why ? "FAILED" : "ok"} ${run.name} ${version}${why}`);
  }
  console.log(`${chosen.length - failed} passed, ${failed} failed`);
  process.exitCode = failed || !chosen.length ? 1 : 0;
}

main(process.argv.slice(2));

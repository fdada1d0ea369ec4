// Tries MQTT.js in a browser on a running broker: node browser.js BROWSER ws://HOST:PORT/PATH FORBIDDEN
//
// FORBIDDEN is the address of a listener that does not let in pages from here. A small server gives the browser
// a page, and is told by the page what came of each case. MQTT.js is found by NODE_PATH.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");

const TIME_LIMIT_MS = 60_000;

// Runs in the browser. What it says goes to the server, line by line; the last line is "end".
async function page(url, forbidden) {
  const say = (line) => fetch("/said", { method: "POST", body: line });
  const versions = [
    { protocolVersion: 3, protocolId: "MQIsdp" },
    { protocolVersion: 4 },
    { protocolVersion: 5 },
  ];
  const options = { reconnectPeriod: 0, connectTimeout: 10_000 };
  const goThrough = async (version) => {
    const client = await mqtt.connectAsync(url, { ...options, ...version });
    const came = [];
    let wake = () => {};
    client.on("message", (topic, payload, packet) => {
      came.push([topic, payload.length, packet.qos]);
      wake();
    });
    for (const qos of [0, 1, 2]) {
      const topic = `browser/${version.protocolVersion}/${qos}`;
      await client.subscribeAsync(topic, { qos });
      for (const size of [0, 10, 200_000]) {
        await client.publishAsync(topic, new Uint8Array(size).fill(120), { qos });
        while (came.length === 0) {
          await new Promise((resolve) => (wake = resolve));
        }
        const expected = JSON.stringify([topic, size, qos]);
        const got = JSON.stringify(came.shift());
        if (got !== expected) throw new Error(`${got} came, ${expected} was sent`);
      }
    }
    await client.endAsync();
  };
  for (const version of versions) {
    const name = `version ${version.protocolVersion}`;
    await goThrough(version).then(
      () => say(`ok ${name}`),
      (error) => say(`FAILED ${name}: ${error.message}`),
    );
  }
  const client = mqtt.connect(forbidden, options);
  const isLetIn = await new Promise((resolve) => {
    client.once("connect", () => resolve(true));
    client.once("close", () => resolve(false));
  });
  await say(isLetIn ? "FAILED a page from elsewhere is let in" : "ok a page from elsewhere is kept out");
  await say("end");
}

function main([browser, url, forbidden]) {
  const library = path.join(path.dirname(require.resolve("mqtt/package.json")), "dist/mqtt.min.js");
  const home = fs.mkdtempSync(path.join(os.tmpdir(), "browser-"));
  const cases = `(${page})(${JSON.stringify(url)}, ${JSON.stringify(forbidden)})`;
  const text = `<!doctype html><script src="/mqtt.js"></script><script>${cases}</script>`;
  let child;
  const sum = { ok: 0, failed: 0 };
  const end = (why) => {
    if (why) console.log(why);
    console.log(`${sum.ok} passed, ${sum.failed} failed`);
    process.exitCode = why || sum.failed || sum.ok !== 4 ? 1 : 0;
    child.kill("SIGKILL");
    child.once("exit", () => {
      fs.rmSync(home, { recursive: true, force: true, maxRetries: 5 });
      process.exit();
    });
  };
  const server = http.createServer((request, response) => {
    if (request.method === "POST") {
      let line = "";
      request.on("data", (data) => (line += data));
      request.on("end", () => {
        response.end();
        if (line === "end") return end();
        console.log(line);
        sum[line.startsWith("ok ") ? "ok" : "failed"] += 1;
      });
    } else if (request.url === "/mqtt.js") {
      response.setHeader("Content-Type", "text/javascript");
      response.end(fs.readFileSync(library));
    } else {
      response.setHeader("Content-Type", "text/html; charset=utf-8");
      response.end(text);
    }
  });
  server.listen(0, "127.0.0.1", () => {
    const options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
    const self = `http://127.0.0.1:${server.address().port}/`;
    // A page that stays open needs a way to be told what to do, or the browser ends with its load.
    options.push(`--user-data-dir=${home}`, "--remote-debugging-port=0", self);
    child = spawn(browser, options, { stdio: "ignore" });
    child.once("error", (error) => {
      console.log(`FAILED ${browser} does not start: ${error.message}`);
      process.exit(1);
    });
  });
  setTimeout(() => end("FAILED it takes too long"), TIME_LIMIT_MS).unref();
}

main(process.argv.slice(2));

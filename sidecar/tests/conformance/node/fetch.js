// What plain HTTP/1.1 clients in Node rely on: fetch.js PORT. One JSON line a fact, as client.js says.
'use strict';

const assert = require('node:assert/strict');
const { createHash, randomBytes } = require('node:crypto');
const { once } = require('node:events');
const http = require('node:http');

const port = Number(process.argv[2]);
const MIB = 1024 * 1024;
const url = (path) => `http://127.0.0.1:${port}${path}`;
const sum = (bytes) => createHash('sha256').update(bytes).digest('hex');

async function read(answer) {
  const parts = [];
  for await (const part of answer) parts.push(part);
  return Buffer.concat(parts);
}

async function ask(path, options = {}, body = undefined) {
  const request = http.request(url(path), options);
  request.end(body);
  const [answer] = await once(request, 'response');
  return { request, answer, body: await read(answer) };
}

const facts = {
  async an_agent_keeps_its_connection() {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const sockets = new Set();
    for (let n = 0; n < 50; n++) {
      const { request, body } = await ask('/keep', { agent, method: 'POST' }, `${n}`);
      assert.equal(body.toString(), `${n}`);
      sockets.add(request.socket);
    }
    assert.equal(sockets.size, 1);
    agent.destroy();
  },

  async a_hundred_requests_at_a_time_are_told_apart() {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });
    const bodies = Array.from({ length: 100 }, () => randomBytes(50_000));
    const asked = bodies.map((body) => ask('/keep', { agent, method: 'POST' }, body));
    (await Promise.all(asked)).forEach(({ body }, n) => assert.equal(sum(body), sum(bodies[n])));
    agent.destroy();
  },

  async a_body_is_answered_while_it_comes() {
    const request = http.request(url('/echo'), { method: 'POST' });
    request.write('0');
    const [answer] = await once(request, 'response');
    let n = 0;
    for await (const part of answer) {
      assert.equal(part.toString(), `${n}`);
      n += 1;
      if (n < 20) request.write(`${n}`);
      else request.end();
    }
    assert.equal(n, 20);
  },

  async fetch_sends_a_stream_and_reads_one() {
    const parts = Array.from({ length: 64 }, () => randomBytes(MIB / 4));
    const answer = await fetch(url('/echo'), {
      method: 'POST',
      duplex: 'half',
      body: new ReadableStream({
        pull: (stream) => (parts.length ? stream.enqueue(parts.pop()) : stream.close()),
      }),
    });
    assert.equal((await answer.arrayBuffer()).byteLength, 16 * MIB);
  },

  async a_caller_that_expects_100_is_told_to_go_on() {
    const options = { method: 'POST', headers: { expect: '100-continue', 'content-length': 4 } };
    const request = http.request(url('/keep'), options);
    request.flushHeaders();
    await once(request, 'continue');
    request.end('body');
    const [answer] = await once(request, 'response');
    assert.equal((await read(answer)).toString(), 'body');
  },

  async an_upgrade_is_refused_in_words() {
    const { answer, body } = await ask('/seen', {
      headers: { connection: 'Upgrade', upgrade: 'websocket' },
    });
    assert.equal(answer.statusCode, 400);
    assert.match(body.toString(), /upgrade/);
  },

  async a_tunnel_is_refused() {
    const request = http.request({ port, host: '127.0.0.1', method: 'CONNECT', path: 'a.test:1' });
    request.end();
    const [answer] = await once(request, 'connect');
    assert(answer.statusCode >= 400, `${answer.statusCode}`);
    request.destroy();
  },

  async a_caller_that_gives_up_harms_no_other() {
    for (let n = 0; n < 50; n++) {
      const abort = new AbortController();
      const asked = fetch(url('/drip'), { signal: abort.signal });
      const answer = await asked;
      abort.abort();
      await assert.rejects(answer.text());
    }
    assert.equal((await ask('/status/200')).answer.statusCode, 200);
  },
};

async function run([fact, check]) {
  const fault = await check().then(
    () => null,
    (fault) => fault.stack,
  );
  console.log(JSON.stringify({ fact, fault }));
}

// One after another: an agent's and fetch's connections are counted.
Object.entries(facts)
  .reduce((before, fact) => before.then(() => run(fact)), Promise.resolve())
  .then(() => process.exit(0));

// What a plain grpc-js client relies on: client.js PORT AUTHORITY.
//
// One JSON line a fact: {"fact": what, "fault": null or why it does not hold}.
'use strict';

const assert = require('node:assert/strict');
const { randomBytes } = require('node:crypto');
const { once } = require('node:events');
const { grpc, Echo, UNLIMITED } = require('./echo.js');

const [port, authority] = process.argv.slice(2);
const SOON = 60_000; // milliseconds, for what is sure to come
const MIB = 1024 * 1024;
const BINARY = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

const client = (options) =>
  new Echo(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
    'grpc.default_authority': authority,
    ...UNLIMITED,
    ...options,
  });
const echo = client({});
const compressing = client({
  'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip,
});
const soon = (milliseconds = SOON) => ({ deadline: Date.now() + milliseconds });

// A call that is to be awaited: its answer, its metadata and status; what it is refused with.
function unary(stub, method, ask, { metadata = new grpc.Metadata(), options = soon() } = {}) {
  let call;
  const ended = new Promise((resolve) => {
    const told = {};
    call = stub[method](ask, metadata, options, (fault, answer) => {
      Object.assign(told, { fault, answer });
    });
    call.on('metadata', (initial) => (told.initial = initial));
    call.on('status', (status) => resolve(Object.assign(told, { status })));
  });
  return Object.assign(ended, { call });
}

async function answered(stub, method, ask, more) {
  const { fault, answer } = await unary(stub, method, ask, more);
  assert.equal(fault, null);
  return answer;
}

async function all(stream) {
  const answers = [];
  for await (const answer of stream) answers.push(answer);
  return answers;
}

async function fails(stream) {
  try {
    await all(stream);
  } catch (fault) {
    return fault;
  }
  throw new Error('the call went well');
}

// Asks until the app says that the call with this token has begun, or was cancelled.
async function held(token, field) {
  for (const end = Date.now() + SOON; Date.now() < end; ) {
    const answer = await answered(echo, 'Held', { data: token });
    if (answer[field]) return answer;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`waited in vain: the held call is ${field}`);
}

const facts = {
  async unary_calls_come_back() {
    for (const data of [Buffer.alloc(0), Buffer.from('x'), BINARY]) {
      assert.deepEqual((await answered(echo, 'Once', { data })).data, data);
    }
  },

  async a_client_stream_arrives_whole() {
    const gather = async (asks) => {
      let call;
      const ended = new Promise((resolve, reject) => {
        call = echo.Gather(soon(), (fault, answer) => (fault ? reject(fault) : resolve(answer)));
      });
      for (const ask of asks) call.write(ask);
      call.end();
      const { count, bytes } = await ended;
      return [count, bytes];
    };
    const asks = Array.from({ length: 300 }, (_, n) => ({ data: Buffer.alloc(n) }));
    assert.deepEqual(await gather(asks), [300, (300 * 299) / 2]);
    assert.deepEqual(await gather([]), [0, 0]);
  },

  async a_server_stream_arrives_whole_and_in_order() {
    const answers = await all(echo.Spread({ answers: 300, size: 1000 }, soon()));
    assert.deepEqual(answers.map((answer) => answer.count), [...Array(300).keys()]);
    assert(answers.every((answer) => answer.data.length === 1000));
    assert.deepEqual(await all(echo.Spread({}, soon())), []);
  },

  async each_answer_comes_while_the_stream_is_open() {
    const talk = echo.Talk(soon());
    const answers = talk[Symbol.asyncIterator]();
    for (let n = 0; n < 100; n++) {
      talk.write({ data: Buffer.from(`${n}`) });
      assert.equal((await answers.next()).value.data.toString(), `${n}`);
    }
    talk.end();
    assert((await answers.next()).done);
  },

  async sixteen_mebibytes_go_each_way_whole() {
    const data = randomBytes(16 * MIB);
    assert(data.equals((await answered(echo, 'Once', { data })).data));
    const talk = echo.Talk(soon());
    talk.write({ data });
    talk.write({ data });
    talk.end();
    const answers = await all(talk);
    assert.deepEqual(answers.map((answer) => data.equals(answer.data)), [true, true]);
  },

  async compressed_messages_are_carried_each_way() {
    const data = Buffer.concat(Array(4096).fill(BINARY));
    const answer = await answered(compressing, 'Once', { data, compress: true });
    assert(data.equals(answer.data));
    const talk = compressing.Talk(soon());
    for (let n = 0; n < 20; n++) talk.write({ data, compress: true });
    talk.end();
    assert((await all(talk)).every((answer) => data.equals(answer.data)));
    const spread = await all(compressing.Spread({ answers: 20, size: MIB, compress: true }, soon()));
    assert.deepEqual(spread.map((answer) => answer.data.length), Array(20).fill(MIB));
  },

  async binary_metadata_crosses_unharmed() {
    const given = [
      ['x-text', ['plain']],
      ['x-one-bin', [BINARY]],
      ['x-many-bin', [Buffer.from([0]), Buffer.from([255, 254])]],
    ];
    const metadata = new grpc.Metadata();
    for (const [key, values] of given) for (const value of values) metadata.add(key, value);
    const { initial, status } = await unary(echo, 'Once', {}, { metadata });
    for (const [key, values] of given) {
      assert.deepEqual(initial.get(key), values);
      assert.deepEqual(status.metadata.get(`x-trailer-${key.slice(2)}`), values);
    }
  },

  async every_status_comes_with_its_message_and_metadata() {
    const message = '\t не найдено ☺\r\n 100 %';
    const metadata = new grpc.Metadata();
    metadata.set('x-one-bin', BINARY);
    for (let code = 1; code <= 16; code++) {
      const { fault, status } = await unary(echo, 'Once', { code, message }, { metadata });
      assert.deepEqual([fault.code, fault.details], [code, message]);
      assert.deepEqual(status.metadata.get('x-trailer-one-bin'), [BINARY]);
    }
  },

  async a_status_after_messages_comes_after_them() {
    const counts = [];
    const spread = echo.Spread({ answers: 3, size: 10, code: 9, message: 'enough' }, soon());
    spread.on('data', (answer) => counts.push(answer.count));
    const [fault] = await once(spread, 'error');
    assert.deepEqual([fault.code, fault.details], [grpc.status.FAILED_PRECONDITION, 'enough']);
    assert.deepEqual(counts, [0, 1, 2]);
  },

  async what_the_app_does_not_know_is_unimplemented() {
    for (const path of ['/echo.v1.EchoService/Nothing', '/nothing.v1.Service/Nothing']) {
      const same = (bytes) => bytes;
      const fault = await new Promise((resolve) => {
        echo.makeUnaryRequest(path, same, same, Buffer.alloc(0), soon(), resolve);
      });
      assert.equal(fault.code, grpc.status.UNIMPLEMENTED);
    }
  },

  async a_cancelled_call_is_cancelled_in_the_app() {
    const ignored = () => {};
    const calls = {
      once: (ask) => echo.Once(ask, soon(), ignored),
      gather: () => echo.Gather(soon(), ignored),
      spread: (ask) => echo.Spread(ask, soon()),
      talk: () => echo.Talk(soon()),
    };
    for (const [name, begin] of Object.entries(calls)) {
      const token = Buffer.concat([Buffer.from(name), randomBytes(8)]);
      const ask = { data: token, hold: true };
      const call = begin(ask);
      call.on('error', ignored);
      if (name === 'gather' || name === 'talk') call.write(ask);
      await held(token, 'begun');
      call.cancel();
      await held(token, 'cancelled');
    }
  },

  async a_stream_is_cancelled_between_its_answers() {
    const spread = echo.Spread({ answers: 100_000, size: 1000 }, soon());
    let last;
    spread.on('data', ({ count }) => {
      last = count;
      if (count === 3) spread.cancel();
    });
    const [fault] = await once(spread, 'error');
    assert.equal(fault.code, grpc.status.CANCELLED);
    assert(last < 100_000 - 1);
  },

  async a_deadline_ends_the_call_on_both_sides() {
    const token = randomBytes(8);
    const begun = Date.now();
    const ask = { data: token, hold: true };
    const { fault } = await unary(echo, 'Once', ask, { options: soon(1500) });
    const took = Date.now() - begun;
    assert.equal(fault.code, grpc.status.DEADLINE_EXCEEDED);
    assert(took > 1400 && took < 20_000, `it took ${took} ms`);
    const { seconds } = await held(token, 'cancelled');
    assert(seconds > 0 && seconds <= 1.5, `the app was told of ${seconds} s`);
  },

  async many_calls_at_a_time_on_one_connection() {
    const asks = Array.from({ length: 100 }, (_, n) => ({
      data: randomBytes(10_000),
      size: n * 1000,
    }));
    const answers = await Promise.all(asks.map((ask) => answered(echo, 'Once', ask)));
    answers.forEach(({ data }, n) => {
      assert(data.equals(Buffer.concat([asks[n].data, Buffer.alloc(asks[n].size)])));
    });
  },
};

// At the same time, as callers are: none may stand in another's way.
async function run([fact, check]) {
  const fault = await check().then(
    () => null,
    (fault) => fault.stack,
  );
  console.log(JSON.stringify({ fact, fault }));
}

Promise.all(Object.entries(facts).map(run)).then(() => process.exit(0));

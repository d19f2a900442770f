// The echo service on grpc-js: app.js PORT. Says "listening" when it does.
'use strict';

const { grpc, Echo, UNLIMITED } = require('./echo.js');

const held = new Map(); // by the call's data: what HeldAnswer says

// Metadata of the caller's that begins with x- comes back, before the answers and after.
function greet(call) {
  const initial = new grpc.Metadata();
  const trailing = new grpc.Metadata();
  for (const key of Object.keys(call.metadata.getMap()).filter((key) => key.startsWith('x-'))) {
    for (const value of call.metadata.get(key)) {
      initial.add(key, value);
      trailing.add(`x-trailer-${key.slice(2)}`, value);
    }
  }
  call.sendMetadata(initial);
  return trailing;
}

// The status that an ask wants the call to end with: null for none. A call that is held never gets
// so far.
function obey(call, ask, trailing, go) {
  if (ask.hold) {
    const seconds = (call.getDeadline() - Date.now()) / 1000;
    const entry = { begun: 1, cancelled: 0, seconds: Number.isFinite(seconds) ? seconds : 0 };
    held.set(ask.data.toString('hex'), entry);
    call.on('cancelled', () => (entry.cancelled = 1));
  } else if (ask.code) {
    go({ code: ask.code, details: ask.message, metadata: trailing });
  } else {
    go(null);
  }
}

const answer = (ask) => Buffer.concat([ask.data, Buffer.alloc(ask.size)]);

// Writes answers as fast as they are read.
async function writeAll(call, answers) {
  for (const each of answers) {
    if (call.cancelled) return;
    if (!call.write(each)) {
      await new Promise((resolve) => {
        call.once('drain', resolve);
        call.once('cancelled', resolve);
      });
    }
  }
}

function* many({ answers, size }) {
  for (let count = 0; count < answers; count++) yield { data: Buffer.alloc(size), count };
}

const service = {
  Once(call, done) {
    const trailing = greet(call);
    const ask = call.request;
    obey(call, ask, trailing, (fault) => done(fault, { data: answer(ask) }, trailing));
  },

  Gather(call, done) {
    const trailing = greet(call);
    const sum = { count: 0, bytes: 0 };
    call.on('data', (ask) =>
      obey(call, ask, trailing, (fault) => {
        if (fault) done(fault);
        sum.count += 1;
        sum.bytes += ask.data.length;
      }),
    );
    call.on('end', () => done(null, sum, trailing));
  },

  async Spread(call) {
    const trailing = greet(call);
    await writeAll(call, many(call.request));
    obey(call, call.request, trailing, (fault) => {
      if (fault) call.emit('error', fault);
      else call.end(trailing);
    });
  },

  Talk(call) {
    const trailing = greet(call);
    let count = 0;
    call.on('data', (ask) =>
      obey(call, ask, trailing, (fault) => {
        if (fault) call.emit('error', fault);
        else if (!call.write({ data: answer(ask), count: count++ })) {
          call.pause();
          call.once('drain', () => call.resume());
        }
      }),
    );
    call.on('end', () => call.end(trailing));
  },

  Held(call, done) {
    done(null, held.get(call.request.data.toString('hex')) ?? {});
  },
};

const server = new grpc.Server(UNLIMITED);
server.addService(Echo.service, service);
const address = `127.0.0.1:${process.argv[2]}`;
server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (fault) => {
  if (fault) throw fault;
  console.log('listening');
});

// A web app: web.js PORT http1|h2c. Says "listening" when it does.
'use strict';

const http = require('node:http');
const http2 = require('node:http2');

let requests = 0; // that came to an end or not
let aborted = 0;
let connections = 0;
let dripping = null;

// What the app was asked, as it saw it.
const seen = (request) => ({
  method: request.method,
  target: request.url,
  headers: request.rawHeaders,
  trailers: request.rawTrailers,
});

const routes = {
  // The body comes back while it comes.
  '/echo'(request, response) {
    request.pipe(response);
  },
  // The body comes back when it has come, in the framing it had.
  '/keep'(request, response) {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      const length = request.headers['content-length'];
      if (length !== undefined) response.setHeader('content-length', length);
      for (const part of parts) response.write(part);
      response.end();
    });
  },
  '/seen'(request, response) {
    request.resume().on('end', () => response.end(JSON.stringify(seen(request))));
  },
  '/counts'(request, response) {
    response.end(JSON.stringify({ requests, aborted, connections }));
  },
  '/cookies'(request, response) {
    response.setHeader('set-cookie', ['a=1; Path=/', 'b=2, with a comma']);
    response.end('two cookies');
  },
  // One part now, another when /more is asked.
  '/drip'(request, response) {
    response.write('first');
    dripping = response;
  },
  '/more'(request, response) {
    dripping.end('second');
    response.end('done');
  },
  // An answer before the body has come, which is never read.
  '/early'(request, response) {
    response.writeHead(413);
    response.end('too much');
  },
  '/hints'(request, response) {
    response.writeEarlyHints({ link: '</style.css>; rel=preload' });
    response.end('after the hints');
  },
  '/trailers'(request, response) {
    response.writeHead(200, { trailer: 'x-after' });
    response.write('body');
    response.addTrailers({ 'x-after': 'all' });
    response.end();
  },
  // The connection ends in the middle of the body.
  '/torn'(request, response) {
    response.writeHead(200, { 'content-length': 100 });
    response.write('part', () => response.destroy());
  },
  '/close'(request, response) {
    response.shouldKeepAlive = false;
    response.end('the last on this connection');
  },
};

function serve(request, response) {
  requests += 1;
  request.on('aborted', () => (aborted += 1));
  response.on('error', () => {});
  const { pathname } = new URL(request.url, 'http://app');
  const status = /^\/status\/(\d+)$/.exec(pathname)?.[1];
  if (status) response.writeHead(Number(status)).end();
  else if (routes[pathname]) routes[pathname](request, response);
  else response.writeHead(404).end('nothing is here');
}

const [port, protocol] = process.argv.slice(2);
const server = protocol === 'http1' ? http.createServer(serve) : http2.createServer(serve);
server.on(protocol === 'http1' ? 'connection' : 'session', () => (connections += 1));
server.listen(Number(port), '127.0.0.1', () => console.log('listening'));

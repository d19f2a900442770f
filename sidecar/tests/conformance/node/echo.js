// The echo service's definition, and what its app and its client share.
'use strict';

const path = require('node:path');
// Brought into a folder of its own (peers/bring), which NODE_PATH names.
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync('echo/v1/echo.proto', {
  includeDirs: [path.join(__dirname, '..')],
  keepCase: true,
  longs: Number,
  defaults: true,
});

exports.grpc = grpc;
exports.Echo = grpc.loadPackageDefinition(definition).echo.v1.EchoService;
exports.UNLIMITED = {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
};

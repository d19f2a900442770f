//go:build tools

// Package tools keeps the programs this module builds among its requirements.
package tools

import (
	_ "connectrpc.com/conformance/cmd/connectconformance"
	_ "connectrpc.com/conformance/cmd/grpcclient"
	_ "connectrpc.com/conformance/cmd/grpcserver"
	_ "connectrpc.com/conformance/cmd/referenceclient"
	_ "connectrpc.com/conformance/cmd/referenceserver"
)

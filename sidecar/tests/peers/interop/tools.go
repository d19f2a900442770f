//go:build tools

// Package tools keeps the programs this module builds among its requirements.
package tools

import (
	_ "google.golang.org/grpc/interop/client"
	_ "google.golang.org/grpc/interop/server"
)

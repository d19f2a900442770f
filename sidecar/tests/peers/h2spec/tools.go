//go:build tools

// Package tools keeps the programs this module builds among its requirements.
package tools

import (
	_ "github.com/summerwind/h2spec/cmd/h2spec"
	_ "github.com/summerwind/h2spec/cmd/h2specd"
)

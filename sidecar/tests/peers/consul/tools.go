//go:build tools

// Package tools keeps the program this module builds among its requirements.
package tools

import _ "github.com/hashicorp/consul"

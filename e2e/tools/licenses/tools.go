//go:build tools

// Package licenses pins the program that reads the licences of our dependencies.
package licenses

import _ "github.com/google/go-licenses/v2"

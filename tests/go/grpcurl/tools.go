//go:build tools

// Package grpcurl names the program of that name, which the tests run against mq. A module of its own, so that nothing else
// depends on what it needs.
package grpcurl

import _ "github.com/fullstorydev/grpcurl/cmd/grpcurl"

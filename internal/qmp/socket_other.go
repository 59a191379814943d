// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package qmp

import (
	"errors"
	"net"
	"os"
)

func sendFile(net.Conn, []byte, *os.File) (int, error) { return 0, errors.ErrUnsupported }

func peer(net.Conn) int { return 0 }

func nonblocking(net.Conn) {}

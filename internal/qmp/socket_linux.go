// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"errors"
	"net"
	"os"

	"github.com/remora-go/remora/internal/sys/linux"
)

// sendFile writes a beginning of msg, with a file.
func sendFile(conn net.Conn, msg []byte, file *os.File) (int, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	n, _, err := u.WriteMsgUnix(msg, linux.Rights(int(file.Fd())), nil)
	return n, err
}

func peer(conn net.Conn) (pid int) {
	control(conn, func(fd int) { pid = linux.PeerPID(fd) })
	return pid
}

func nonblocking(conn net.Conn) { control(conn, linux.SetNonblocking) }

// control calls f with the descriptor of a connection that is a socket.
func control(conn net.Conn, f func(fd int)) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return
	}
	if raw, err := u.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

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

func peer(conn net.Conn) int {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) { pid = linux.PeerPID(int(fd)) })
	return pid
}

// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import "golang.org/x/sys/unix"

// Rights gives the control message that sends a descriptor (SCM_RIGHTS, unix(7)).
func Rights(fd int) []byte { return unix.UnixRights(fd) }

// SetNonblocking has reads and writes of a descriptor, and of all that share its open file,
// give EAGAIN where they would wait (O_NONBLOCK, fcntl(2)).
func SetNonblocking(fd int) { _ = unix.SetNonblock(fd, true) }

// PeerPID gives the process that listened on the other end of a connected socket, in
// this pid namespace (SO_PEERCRED, unix(7)): 0 where it cannot be seen from here.
func PeerPID(fd int) int {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

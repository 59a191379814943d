// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import "golang.org/x/sys/unix"

// Rights gives the control message that sends a descriptor (SCM_RIGHTS, unix(7)).
func Rights(fd int) []byte { return unix.UnixRights(fd) }

// PeerPID gives the process that listened on the other end of a connected socket, in
// this pid namespace (SO_PEERCRED, unix(7)): 0 where it cannot be seen from here.
func PeerPID(fd int) int {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

// SPDX-License-Identifier: Apache-2.0

// Package qmp is a client of the QEMU Machine Protocol: JSON over a unix socket, as
// QEMU's docs/interop/qmp-spec describes it. A connection begins with QEMU's greeting
// and with qmp_capabilities; then commands are answered in order, with events between
// the answers.
//
// QEMU serves one client of a socket at a time: a second one connects and then waits
// for its greeting, so bound New and Dial with a deadline.
package qmp

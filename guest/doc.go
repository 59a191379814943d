// SPDX-License-Identifier: Apache-2.0

// Package guest gives the memory of machines that run: physical memory as a Space. It
// does not know what an operating system is; see package kernel for that.
//
// # QEMU
//
// OpenQEMU opens a guest of QEMU by its QMP socket. Where guest memory lies is told by
// QEMU itself; the bytes are read and written in the memory of QEMU's process, which the
// caller opens (QEMUOptions.Process), and what of it is a shared file or memfd is read
// from a mapping of that file. Without the right to that process the guest can only be
// read, through QEMU, and slowly. Describe says which way is in use.
//
// The guest runs on meanwhile: what is read in two places is of two moments, unless
// Pause stops it. Nothing that is read stops it, but Notes does for about a millisecond.
//
// A handle is of one life of one machine. When QEMU exits or closes the connection, and
// when the guest is reset or has migrated away, every call gives remora.ErrGone until
// the guest is opened again. A call that began before that was noticed may still give the
// last bytes of the guest; it is noticed within 100 ms. A kernel that another one
// replaces without a reset (kexec) is not noticed.
//
// Memory that is plugged in while the guest is open is found when an address misses, at
// most ten times a second. Ranges that firmware may turn to other memory without a word,
// below 1 MiB on a PC, are where they were when the list was read last.
//
// QEMU serves one QMP client of a socket at a time, and an open handle is one. Guests
// whose memory is encrypted, or is still arriving from another host, are refused.
//
// To read memory that the guest has never touched makes QEMU's host give it a page, as it
// does for any reader; remora.Resident does not.
package guest

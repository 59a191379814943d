// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

// Command guest is the only program of a laboratory guest: its /init, and each of its
// witness processes. As /init it loads modules, starts the witnesses, writes what is
// true of them and of the kernel to a disk, and says so on the console; then nothing
// changes any more but time. Asked to by the kernel's command line, it crashes the
// kernel, and copies the crashed one's memory to a disk in the kernel that comes next.
package main

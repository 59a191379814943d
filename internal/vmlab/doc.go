// SPDX-License-Identifier: Apache-2.0

// Package vmlab is a laboratory of real kernels for tests: Debian's own, booted under
// QEMU without its accelerator, with witness processes whose memory is known, and with
// the truth about both told by the guest itself; and every sort of image of their
// memory that QEMU, makedumpfile and the kernel's own crash dump make.
//
// A Machine names a kernel and a variant. Open gives a moment of it: one stop of one
// boot, of which all images are. Moments are kept in a cache by what they were made
// of, so that a kernel boots once a machine and not once a test:
//
//	lab := vmlab.Open(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
//	path := lab.Dump(vmlab.ELF)
//	symbols := lab.Truth().Symbols()
//
// Live boots another one, and leaves it stopped to be asked.
//
// The cache is $REMORA_LAB, or remora-vmlab in the user's cache directory. A test that
// cannot have its kernel is skipped, and fails under REMORA_REQUIRE: see testneed. The
// kernels come from the Debian mirror that this system uses, through apt with a
// configuration of its own; nothing of the system's own packages is touched.
package vmlab

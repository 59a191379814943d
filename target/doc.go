// SPDX-License-Identifier: Apache-2.0

// Package target opens a target by the text that names it on a command line.
//
// # Forms
//
// Open holds the text against an ordered table:
//
//	1234, pid:1234   a live process, or a thread of one
//	self             this process
//	kernel           the kernel that runs here; kernel@PID, kernel@phys
//	core:FILE        an ELF core file of a process
//	vmcore:FILE[,FILE...]  a kernel image, of one file or of the parts of a split one
//	FILE             a file whose format is found out
//
// A file whose name looks like another form is written as ./NAME. With a prefix the
// answer of that opener is final. For FILE each format is tried in turn, core files
// before kernel images, and only remora.ErrUnrecognized goes on to the next.
//
// # Kernel images
//
// A kernel image is the memory of the kernel at its virtual addresses, through its page
// tables: see Kernel. With @phys behind it, it is physical memory: a *vmcore.Image. With
// @PID it is the memory of a process: a *Process.
// Where both dump and dump@phys are files, ./dump@phys is the second one.
//
// # The kernel that runs here
//
// "kernel" is the kernel that this program runs on, through /proc/kcore: see
// vmcore.OpenKcore. A file of that name is written as ./kernel. It takes root with
// CAP_SYS_RAWIO; what refuses is named by a *remora.AccessError. Written it can be only where
// Linux lets RAM be reached through /dev/mem, which is rare: where not, opening it to be
// written fails, and says which setting refuses.
//
// "kernel@PID" is a process as the kernel's page tables have it. It agrees with "pid:PID"
// where both have an answer. By design it reads what protections refuse (PROT_NONE), brings
// nothing into memory (what is not there is remora.ErrNotPresent), and changes nothing of
// the process. PID counts in the first pid namespace. Writes go through package proc, as
// those to "pid:PID" do.
//
// # Errors
//
// A text that has none of these forms, or names a file that is not there, is a
// *SpecError, which lists the forms. What an opener says comes as it is: see packages
// proc and usercore. When the target lacks what Options ask for, the error Is
// remora.ErrReadOnly or errors.ErrUnsupported, and nothing stays open.
//
// # Other systems
//
// Live processes are opened on Linux. Elsewhere the error Is errors.ErrUnsupported.
package target

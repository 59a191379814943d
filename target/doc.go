// SPDX-License-Identifier: Apache-2.0

// Package target opens a target by the text that names it on a command line.
//
// # Forms
//
// Open holds the text against an ordered table:
//
//	1234, pid:1234   a live process, or a thread of one
//	self             this process
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

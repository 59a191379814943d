// SPDX-License-Identifier: Apache-2.0

// Package processvm is process_vm_readv(2) and process_vm_writev(2), exact to the
// errno, for any two address spaces.
//
// # Structure
//
// There are two forms. The functions of the package are the system call itself, on
// Linux: whatever a C program can pass can be passed here. A System is the engine of
// the kernel built anew: a table of processes whose memory is any remora.Space, a
// dump's, a guest's or a live process's, and calls that move bytes from one to the
// other with the counts and the error numbers that the kernel would give. It is
// built as mm/process_vm_access.c is, file by file:
//
//	rw.go         process_vm_rw: both vectors are imported and checked
//	core.go       process_vm_rw_core: the process is found, permission is asked
//	singlevec.go  process_vm_rw_single_vec: a batch of pages is pinned
//	pages.go      process_vm_rw_pages: what is pinned is copied
//
// # Results
//
// A call gives the bytes moved and an error number, and one of them is zero. A fault
// behind the first byte is no error: the count is short (R22, R23). Outcome tells a
// short count from a complete one, and names the address. ReadAll and WriteAll go on
// where one call cannot: past 1,024 elements, and past 2 GiB less a page.
//
// # What a Space cannot tell
//
// The kernel brings the pages of a whole batch into memory before it copies the first
// byte (R28). The engine does so where the Space is a Pinner. Elsewhere it touches only
// what it moves, and that is all that can be told apart.
//
// The kernel copies each page straight from one process to the other, so a
// transfer within one process sees what it has itself written. The engine goes piece
// by piece, through a buffer, where the memory may be the same: within one Space, and
// between two that are Live. Within one piece, a source that overlaps its destination
// has the effect of memmove, which the kernel does not promise.
//
// A context that ends is a signal that kills the caller: nothing more is moved, and
// where nothing was, the number is EINTR.
package processvm

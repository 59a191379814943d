// SPDX-License-Identifier: Apache-2.0

// Package testimage writes images for tests, as their makers write them, and as
// nobody should. It writes what it is told and checks nothing.
//
//   - Core: ELF cores of user processes, in both classes and byte orders, as the
//     Linux kernel, gdb and Delve write them.
//   - Physical: physical memory, in which each page is saved, filtered out or lost,
//     or there is none. It is written as a VMCore (ELF), a Kdump (diskdump), LiME
//     and AVML, and Raw. Flatten makes a flattened file of any other.
//   - Tables: page tables in a Physical; Guest: a small machine that has some.
//   - Signatures: the first bytes of files of other formats.
//
// What can be larger than memory is written to an io.WriterAt, of which Sparse is
// one in memory.
package testimage

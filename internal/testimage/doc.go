// SPDX-License-Identifier: Apache-2.0

// Package testimage writes images for tests: ELF cores of user processes, in both
// classes and byte orders, as the Linux kernel, gdb and Delve write them, and as
// nobody should. It writes what it is told and checks nothing.
package testimage

// SPDX-License-Identifier: Apache-2.0

// Package elfcore reads what user cores and kernel images in ELF form share: the
// file header, the program headers and the notes. It takes both classes, both byte
// orders and headers at any place, and it judges nothing: segments may be
// unsorted, overlap, and lie past the end of the file.
//
// It is not debug/elf, which reads sections that a core need not have, refuses
// files that real dumps are (segments past the end), and allocates by counts that
// the file claims. Here every count is checked against the size of the file before
// anything is allocated, and notes are indexed, not loaded. NotesIn does the same for
// notes that lie in a file of another format.
//
// # Errors
//
// What the file does not hold is a *remora.FormatError with the file's name, the
// offset, what was wanted there and what was found. It Is remora.ErrUnrecognized
// when the file is no ELF file, ErrTruncated when the end of the file cuts a header
// off, ErrCorrupt otherwise, or what the reader said.
//
// # Concurrency
//
// A File is not changed after Read, and may be used from many goroutines if its
// io.ReaderAt may.
package elfcore

// SPDX-License-Identifier: Apache-2.0

// Package xfer turns what a backend can do into the contract of remora.Space.
//
// Two facts shape it. First: a layered write must stop at its own fault. When a
// virtual segment is made of three pieces and the second cannot be written, the
// third must not be written either, or bytes outside the counted prefix change
// (rule 4). So the pieces of a written segment go down with StopAtFault, and never
// in one call with pieces of another. Second: Linux is more exact than its manual.
// process_vm_readv and process_vm_writev stop at the exact page inside one remote
// iovec and count the bytes before it (process_vm_rw_pages in
// mm/process_vm_access.c), so one long iovec is enough, and none needs to be split
// to find a fault.
//
// # Structure
//
// A Space calls Gate.Admit, which refuses what must be refused whole, and then one
// of the engines:
//
//   - Each, for a backend that can move a prefix of one run and say why it stopped.
//   - Retreat, in front of Each, for a primitive that moves all of a run or nothing.
//   - Plan, for a Space that is made of other Spaces and a Translator.
//
// # Errors
//
// The engines put causes into segments as they come from below and make none of
// their own, except ErrUnmapped past the last address, ErrStopped, ErrProtected
// where an Extent's Perm refuses, and the context's error.
//
// # Cancellation
//
// The context is looked at before each chunk of at most ChunkBytes or ChunkSegs.
// A call that it cut short keeps exact counts.
//
// # Concurrency and memory
//
// Nothing here is changed by a call, so all may be used from many goroutines at
// once. Nothing is allocated after warm-up. Plan takes its working memory from a
// pool: one window of ChunkSegs segments, however many and however long the
// caller's segments are.
package xfer

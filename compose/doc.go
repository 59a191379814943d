// SPDX-License-Identifier: Apache-2.0

// Package compose makes Spaces out of Spaces: side by side, at other addresses,
// read-only, copied on write, cached, watched.
//
// # Structure
//
//	Splice    several Spaces laid side by side
//	Window    a part of a Space, at other addresses
//	ReadOnly  a Space that cannot be written
//	Overlay   writes stay in memory of ours, the Space below is never written
//	Cache     what was read is kept
//	Trace     a function sees every call
//	Zero      a Space of zeros
//	Swap      a Target with another memory and the same abilities
//
// All keep the 14 rules of remora.Space when the Spaces below do, so they nest in
// any order.
//
// # Abilities
//
// Cache and Trace are transparent: they have Unwrap, so remora.As sees what lies
// below. The others are opaque, and As never reaches the Space below through them;
// only what explains a fault is handed on, by remora.Explainer.
//
// # Closing
//
// Nothing here closes what lies below, but for Swap, whose Target owns the one it
// was given. Layer and PageCache have a Close of their own, which frees their
// memory. The others hold nothing, and have none: when a Space below is closed,
// segments that lead to it end with fs.ErrClosed.
//
// # Errors
//
// Causes come from below as they are. Of their own these Spaces have only the cause
// of a gap, remora.ErrUnmapped unless given, and remora.ErrReadOnly.
//
// # Concurrency and memory
//
// All may be used from many goroutines at once. After warm-up a call allocates
// nothing that the Space below does not, but for the pages that a Layer is given to
// keep. What each one holds is said with it.
package compose

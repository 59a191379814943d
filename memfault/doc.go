// SPDX-License-Identifier: Apache-2.0

// Package memfault makes memory fail on purpose, to test what reads or writes it.
//
// New wraps a remora.Space and takes rules as text, one a line or separated by
// semicolons; what follows a # is a comment:
//
//	read 0x1000-0x1fff unmapped     # reading any of these bytes, the last included
//	write 0x1000+16 protected       # writing any of these 16
//	any 0x2345 poisoned             # reading or writing this one
//	read everywhere not-saved
//	every 7th short                 # each 7th segment moves half and ends with io
//	every 100th write short busy    # of those written, with this cause
//	every 5th read io               # moves nothing
//	delay 5ms                       # before each call that has something to move
//	gone after 100                  # such calls; from then on the target is gone
//
// Numbers are decimal, or hexadecimal after 0x. The causes are
//
//	fault unmapped protected beyond-eof guard not-present not-saved hole
//	truncated corrupt poisoned io device no-table gone busy
//
// which are remora.ErrFault, ErrUnmapped and so on.
//
// # What holds
//
// A Space keeps the contract of remora.Space if the one below does: where an
// injected fault stops a segment, N is exact, and nothing behind it is read or
// written. An injected fault goes before one of the Space below at the same byte,
// the first rule before a later one at the same byte, and no op bit lets an access
// through. Info is that of the Space below, but for a Granule as small as the rules
// need.
//
// Segments are counted for "every" when they are taken up, over all calls and
// callers, those of length zero left out. A delay ends early with its context.
//
// A Space is transparent: remora.As sees through it. It explains its own faults by
// naming the rule.
package memfault

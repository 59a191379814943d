// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// The table of symbols in the image of a kernel, as scripts/kallsyms.c writes and
// kernel/kallsyms.c reads it:
//
//	names     for each symbol the number of its tokens in one byte, since 6.1 also in two
//	          (the first one with its highest bit set, and the low 7 bits of the number;
//	          then the others), and so many bytes, each the number of a token. The tokens
//	          together are the letter of nm(1) and the name
//	tokens    256 strings, each ended by a zero
//	index     where in tokens each begins, in 16 bits
//	markers   where in names every 256th symbol begins, in 32 bits, before 4.20 in 64
//	offsets   of each symbol: its address, see encoding
//	seqs      since 6.2: the numbers of the symbols in the order of their names, each in
//	          3 bytes, in 6.1 stable in 4, big-endian

// kallsymsAt says where these tables are, in the memory that they are read from, which
// need not be that of virtual addresses.
type kallsymsAt struct {
	mem     *remora.Memory
	count   uint64 // of symbols
	names   remora.Addr
	tokens  remora.Addr
	index   remora.Addr
	markers remora.Addr // 0: not known
	wide    bool        // the markers have 64 bits
	seqs    remora.Addr // 0: not known
	seqSize int         // bytes
	offsets remora.Addr

	encoding encoding
	base     uint64 // what kallsyms_relative_base holds: encBase, encPerCPU
	place    uint64 // the virtual address of offsets: encPlace
}

// encoding is how the addresses are written.
type encoding uint8

const (
	encNone     encoding = iota
	encAbsolute          // 64 bits: the address
	encBase              // 32 bits, added to the base
	encPerCPU            // 32 bits with a sign: the address if not negative, else taken from base-1
	encPlace             // 32 bits with a sign, added to the address of the place that holds them
)

func (e encoding) String() string {
	return [...]string{"unknown", "absolute", "relative to a base", "relative to a base but for per-CPU ones", "relative to their place"}[e]
}

// size is the number of bytes of each offset.
func (e encoding) size() int {
	if e == encAbsolute {
		return 8
	}
	return 4
}

// Bounds of what is believed.
const (
	maxKallsyms   = 1 << 22
	maxSymbolName = 4096      // bytes; the kernel's KSYM_NAME_LEN is 512
	maxSymbolText = 256 << 20 // bytes of all names
	maxToken      = 512
	perMarker     = 256
)

// kallsyms decodes such tables.
type kallsyms struct {
	kallsymsAt
	token [256]string
	marks []uint64 // nil: not known

	all   once[*sym.Table]
	looks atomic.Int32 // for addresses, before that
}

// openKallsyms reads what is small of the tables.
func openKallsyms(ctx context.Context, at kallsymsAt) (*kallsyms, error) {
	s := &kallsyms{kallsymsAt: at}
	if at.count == 0 || at.count > maxKallsyms {
		return nil, s.bad("kallsyms_num_syms", 0, fmt.Sprintf("1 to %d symbols", maxKallsyms), fmt.Sprint(at.count))
	}
	if err := s.readTokens(ctx); err != nil {
		return nil, err
	}
	if at.markers != 0 {
		var err error
		if s.marks, err = s.readMarkers(ctx, at.markers, at.wide); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *kallsyms) bad(table string, off int64, want, got string) error {
	return &remora.FormatError{File: table, Offset: off, Want: want, Got: got, Err: remora.ErrCorrupt}
}

// readTokens reads the tokens.
func (s *kallsyms) readTokens(ctx context.Context) error {
	var index [2 * 256]byte
	if _, err := s.mem.ReadAt(ctx, index[:], s.index); err != nil {
		return err
	}
	var starts [256]int
	for i := range starts {
		starts[i] = int(binary.LittleEndian.Uint16(index[2*i:]))
		if i == 0 && starts[i] != 0 || i > 0 && starts[i] <= starts[i-1] {
			return s.bad("kallsyms_token_index", int64(2*i), "offsets that rise from 0", fmt.Sprint(starts[i]))
		}
	}
	text := make([]byte, starts[255]+maxToken)
	n, err := s.mem.ReadAt(ctx, text, s.tokens)
	text = text[:n]
	for i, at := range starts {
		end := -1
		if at < n {
			end = bytes.IndexByte(text[at:], 0)
		}
		switch {
		case end < 0 && err != nil:
			return err
		case end < 0 || end > maxToken, i < 255 && starts[i+1] != at+end+1:
			return s.bad("kallsyms_token_table", int64(at), "256 strings, where the index has them", fmt.Sprintf("%.20q", text[min(at, n):]))
		}
		s.token[i] = string(text[at : at+end])
	}
	return nil
}

// readMarkers reads the markers, of which the first is 0 and each is so far behind the
// one before it as 256 names can be.
func (s *kallsyms) readMarkers(ctx context.Context, a remora.Addr, wide bool) ([]uint64, error) {
	size := 4
	if wide {
		size = 8
	}
	b := make([]byte, (s.count+perMarker-1)/perMarker*uint64(size))
	if _, err := s.mem.ReadAt(ctx, b, a); err != nil {
		return nil, err
	}
	all := make([]uint64, len(b)/size)
	for i := range all {
		if wide {
			all[i] = binary.LittleEndian.Uint64(b[8*i:])
		} else {
			all[i] = uint64(binary.LittleEndian.Uint32(b[4*i:]))
		}
		if i == 0 && all[i] != 0 || i > 0 && (all[i] < all[i-1]+2*perMarker || all[i] > all[i-1]+perMarker*maxSymbolName) {
			return nil, s.bad("kallsyms_markers", int64(size*i), "offsets that rise from 0 by what 256 names take", fmt.Sprint(all[i]))
		}
	}
	return all, nil
}

// nextName takes a compressed name off b. It is nil when b is too short for one. plain
// says that numbers of tokens have one byte.
func nextName(b []byte, plain bool) (name, rest []byte) {
	if len(b) == 0 {
		return nil, b
	}
	n, at := int(b[0]), 1
	if n&0x80 != 0 && !plain {
		if len(b) < 2 {
			return nil, b
		}
		n, at = n&0x7f|int(b[1])<<7, 2
	}
	if len(b) < at+n {
		return nil, b
	}
	return b[at : at+n : at+n], b[at+n:]
}

// expand adds the letter and the name that tokens stand for to text. It gives nil if
// there is no name, or a longer one than there can be.
func (s *kallsyms) expand(text, tokens []byte) []byte {
	n := len(text)
	for _, t := range tokens {
		text = append(text, s.token[t]...)
		if len(text)-n > maxSymbolName {
			return nil
		}
	}
	if len(text)-n < 2 {
		return nil
	}
	return text
}

// address works out the address of symbol i, of the bytes that the offsets have for it.
func (s *kallsyms) address(i uint64, b []byte, e encoding) remora.Addr {
	switch e {
	case encAbsolute:
		return remora.Addr(binary.LittleEndian.Uint64(b))
	case encBase:
		return remora.Addr(s.base + uint64(binary.LittleEndian.Uint32(b)))
	case encPerCPU:
		off := int64(int32(binary.LittleEndian.Uint32(b)))
		if off >= 0 {
			return remora.Addr(off)
		}
		return remora.Addr(s.base - 1 - uint64(off))
	default:
		return remora.Addr(s.place + 4*i + uint64(int64(int32(binary.LittleEndian.Uint32(b)))))
	}
}

// addressOf reads the address of symbol i.
func (s *kallsyms) addressOf(ctx context.Context, i uint64, e encoding) (remora.Addr, error) {
	var b [8]byte
	if _, err := s.mem.ReadAt(ctx, b[:e.size()], s.offsets+remora.Addr(i*uint64(e.size()))); err != nil {
		return 0, err
	}
	return s.address(i, b[:], e), nil
}

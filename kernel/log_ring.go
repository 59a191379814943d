// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/remora-go/remora"
)

// The ring buffer of the log (kernel/printk/printk_ringbuffer.h): a ring of descriptors,
// an array of what is known of each of them, and a ring of text. A descriptor's number
// and a position of text count up for ever: their low bits are where in the ring they are.

// Bounds of what the kernel makes: a log of at most 2 GiB, with a descriptor for each 32
// bytes of it (LOG_BUF_LEN_MAX and PRB_AVGBITS in kernel/printk/printk.c).
const (
	maxLogDescBits = 27
	maxLogTextBits = 32
)

// The state of a descriptor is in the highest bits of its number.
const (
	logStateShift = 62
	logIDMask     = 1<<logStateShift - 1

	logCommitted = 1
	logFinalized = 2
)

// Text blocks begin with the number of their descriptor. A position that is odd says that
// there is none: because the text is empty, or for another reason, as that there was no
// room (NO_LPOS, later EMPTY_LINE_LPOS, and FAILED_LPOS).
const (
	logBlockID   = 8
	logTextEmpty = 3
)

// The sizes of the members of struct dev_printk_info (include/linux/dev_printk.h).
const (
	logSubsystem = 16
	logDevice    = 48
)

// ringLayout is where the members of the structures are.
type ringLayout struct {
	ring, desc, info                      uint64 // sizes
	descRing, textRing                    field
	countBits, descs, infos, headID, tail field
	sizeBits, data                        field
	state, block, begin, next             field
	seq, ts, textLen, caller, dev         field
}

// ringLayout finds out the layout.
func (k *Kernel) ringLayout(ctx context.Context) (*ringLayout, error) {
	word, half := field{size: 8, there: true}, field{size: 4, there: true}
	l := &ringLayout{countBits: half, descs: word, infos: word, headID: word, tail: word, sizeBits: half, data: word,
		descRing: word, textRing: word, state: word, block: word, begin: word, next: word,
		seq: word, ts: word, textLen: field{size: 2, there: true}, caller: half, dev: half}
	err := k.described(ctx,
		wanted{&l.descRing, "printk_ringbuffer.desc_ring", false}, wanted{&l.textRing, "printk_ringbuffer.text_data_ring", false},
		wanted{&l.countBits, "prb_desc_ring.count_bits", false}, wanted{&l.descs, "prb_desc_ring.descs", false},
		wanted{&l.infos, "prb_desc_ring.infos", false}, wanted{&l.headID, "prb_desc_ring.head_id", false},
		wanted{&l.tail, "prb_desc_ring.tail_id", false}, wanted{&l.sizeBits, "prb_data_ring.size_bits", false},
		wanted{&l.data, "prb_data_ring.data", false}, wanted{&l.state, "prb_desc.state_var", false},
		wanted{&l.block, "prb_desc.text_blk_lpos", false}, wanted{&l.begin, "prb_data_blk_lpos.begin", false},
		wanted{&l.next, "prb_data_blk_lpos.next", false}, wanted{&l.seq, "printk_info.seq", false},
		wanted{&l.ts, "printk_info.ts_nsec", false}, wanted{&l.textLen, "printk_info.text_len", false},
		wanted{&l.caller, "printk_info.caller_id", true}, wanted{&l.dev, "printk_info.dev_info", true})
	if err != nil {
		return nil, err
	}
	for _, s := range []struct {
		into *uint64
		name string
	}{{&l.ring, "printk_ringbuffer"}, {&l.desc, "prb_desc"}, {&l.info, "printk_info"}} {
		if *s.into, err = k.sized(ctx, s.name); err != nil {
			return nil, err
		}
	}
	return l, l.check(k.info.Name)
}

// check wants every member to be in its structure.
func (l *ringLayout) check(name string) error {
	if l.dev.has() {
		l.dev.size = logSubsystem + logDevice
	}
	if l.dev.off+uint64(l.dev.size) > l.info {
		l.dev = field{}
	}
	for _, m := range []struct {
		size uint64
		at   []field
	}{
		{l.ring, []field{l.descRing.member(l.countBits), l.descRing.member(l.descs), l.descRing.member(l.infos),
			l.descRing.member(l.headID), l.descRing.member(l.tail), l.textRing.member(l.sizeBits), l.textRing.member(l.data)}},
		{l.desc, []field{l.state, l.block.member(l.begin), l.block.member(l.next)}},
		{l.info, []field{l.seq, l.ts, l.textLen, {off: l.textLen.off, size: 4}, l.caller}},
	} {
		for _, f := range m.at {
			if f.off+uint64(f.size) > m.size {
				return fmt.Errorf("%s: a member of the log's structures is at %d, behind the end of %d bytes: %w", name, f.off, m.size, remora.ErrCorrupt)
			}
		}
	}
	return nil
}

// ring is the log of a kernel.
type ring struct {
	*ringLayout
	ctx              context.Context
	k                *Kernel
	descAt, infoAt   remora.Addr
	text             remora.Addr
	descBits         uint64
	textBits         uint64
	head, tailID     uint64
	descBuf, infoBuf []byte
	textBuf          []byte
	segs             []remora.Seg
	batch            []pending
	bytes            uint64 // of text in the batch
}

// pending is a record whose text has not been read.
type pending struct {
	LogRecord
	id         uint64
	from, size uint64 // the block in the ring of text, with its number
}

// logRing gives the records of the ring buffer.
func (k *Kernel) logRing(ctx context.Context, yield func(LogRecord, error) bool) error {
	l, err := k.ringLayout(ctx)
	if err != nil {
		return err
	}
	at, err := k.noted(ctx, "prb")
	if err != nil {
		return err
	}
	r := &ring{ringLayout: l, ctx: ctx, k: k}
	if err := r.open(at); err != nil {
		return err
	}
	window := max(logWindow/(r.desc+r.info), 1)
	for id, left := r.tailID, (r.head-r.tailID)&logIDMask+1; left > 0; {
		n := min(left, window, 1<<r.descBits-id&(1<<r.descBits-1)) // up to the ring's end
		if err := r.window(id, n); err != nil {
			return err
		}
		for i := uint64(0); i < n; i++ {
			if !r.record((id+i)&logIDMask, i, yield) {
				return nil
			}
		}
		if !r.flush(yield) {
			return nil
		}
		id, left = (id+n)&logIDMask, left-n
	}
	return nil
}

// open reads the struct printk_ringbuffer that the pointer at a leads to.
func (r *ring) open(a remora.Addr) error {
	in := r.k.reader(r.ctx)
	at := in.ptr(a, field{size: 8})
	b := make([]byte, r.ring)
	in.bytes(at, b)
	if in.err != nil {
		return in.err
	}
	get := func(of, f field) uint64 { return at64(b, of.member(f)) }
	r.descBits, r.textBits = get(r.descRing, r.countBits), get(r.textRing, r.sizeBits)
	r.descAt, r.infoAt = remora.Addr(get(r.descRing, r.descs)), remora.Addr(get(r.descRing, r.infos))
	r.text = remora.Addr(get(r.textRing, r.data))
	r.head, r.tailID = get(r.descRing, r.headID)&logIDMask, get(r.descRing, r.tail)&logIDMask
	switch {
	case r.descBits == 0 || r.descBits > maxLogDescBits || r.textBits < 4 || r.textBits > maxLogTextBits:
		return fmt.Errorf("%s: the log at %v: 2^%d descriptors, 2^%d bytes of text: %w", r.k.info.Name, at, r.descBits, r.textBits, remora.ErrCorrupt)
	case (r.head-r.tailID)&logIDMask >= 1<<r.descBits:
		return fmt.Errorf("%s: the log at %v: records 0x%x to 0x%x, with 2^%d descriptors: %w", r.k.info.Name, at, r.tailID, r.head, r.descBits, remora.ErrCorrupt)
	case wraps(r.descAt, r.desc<<r.descBits) || wraps(r.infoAt, r.info<<r.descBits) || wraps(r.text, 1<<r.textBits):
		return fmt.Errorf("%s: the log at %v: an array of it goes beyond the last address: %w", r.k.info.Name, at, remora.ErrCorrupt)
	}
	return nil
}

// wraps says whether size bytes from a on go beyond the last address.
func wraps(a remora.Addr, size uint64) bool { return size != 0 && uint64(a)+size-1 < uint64(a) }

// member gives a field of the structure that is at f in another.
func (f field) member(of field) field {
	of.off += f.off
	return of
}

// at64 decodes a member of the structure in b.
func at64(b []byte, f field) uint64 {
	return f.value(b[f.off:f.off+uint64(f.size)], binary.LittleEndian)
}

// What is read at a time, in bytes: of descriptors and what is known of them, and of text.
const (
	logWindow = 512 << 10
	logChunk  = 1 << 20
)

// window reads n descriptors from that of id on, and what is known of them.
func (r *ring) window(id, n uint64) error {
	first := id & (1<<r.descBits - 1)
	r.descBuf, r.infoBuf = resize(r.descBuf, n*r.desc), resize(r.infoBuf, n*r.info)
	segs := []remora.Seg{{Addr: r.descAt + remora.Addr(first*r.desc), Buf: r.descBuf}, {Addr: r.infoAt + remora.Addr(first*r.info), Buf: r.infoBuf}}
	if _, err := r.k.mem.ReadV(r.ctx, segs); err != nil {
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		return fmt.Errorf("the log's descriptors: %w", remora.FirstFault(r.ctx, r.k.mem, remora.Read, segs))
	}
	return nil
}

func resize(b []byte, n uint64) []byte {
	if uint64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// record takes the record of a descriptor, the i-th of the window, into the batch. It is
// left out where a writer has it, or had not got further. It is false when the log ends.
func (r *ring) record(id, i uint64, yield func(LogRecord, error) bool) bool {
	desc, info := r.descBuf[i*r.desc:(i+1)*r.desc], r.infoBuf[i*r.info:(i+1)*r.info]
	if !written(at64(desc, r.state), id) {
		return true
	}
	flags := at64(info, field{off: r.textLen.off + 2, size: 2}) // u8 facility, u8 flags:5, u8 level:3
	p := pending{id: id, LogRecord: LogRecord{Seq: at64(info, r.seq), Time: time.Duration(min(at64(info, r.ts), math.MaxInt64)), Facility: uint8(flags), Level: uint8(flags >> 13)}}
	if r.caller.has() {
		p.Caller = LogCaller(at64(info, r.caller))
	}
	if r.dev.has() {
		device := info[r.dev.off:]
		p.Subsystem, p.Device = cString(device[:logSubsystem]), cString(device[logSubsystem:logSubsystem+logDevice])
	}
	begin, next := at64(desc, r.block.member(r.begin)), at64(desc, r.block.member(r.next))
	from, size, ok := r.blockAt(begin, next)
	p.Lost = !ok && (begin != logTextEmpty || next != begin)
	if ok {
		p.from, p.size = from, min(size, logBlockID+at64(info, r.textLen))
	}
	if len(r.batch) > 0 && r.bytes+p.size > logChunk && !r.flush(yield) {
		return false
	}
	r.batch, r.bytes = append(r.batch, p), r.bytes+p.size
	return true
}

// written says whether a descriptor is that of id, and not in the hands of a writer.
func written(sv, id uint64) bool {
	state := sv >> logStateShift
	return sv&logIDMask == id && (state == logCommitted || state == logFinalized)
}

// flush reads the text of the batch, and gives its records.
func (r *ring) flush(yield func(LogRecord, error) bool) bool {
	buf := resize(r.textBuf, r.bytes)
	r.textBuf, r.segs = buf, r.segs[:0]
	for _, p := range r.batch {
		r.segs = append(r.segs, remora.Seg{Addr: r.text + remora.Addr(p.from), Buf: buf[:p.size:p.size]})
		buf = buf[p.size:]
	}
	_, _ = r.k.mem.ReadV(r.ctx, r.segs) // it is in the segments
	if r.k.info.Live {
		r.again()
	}
	for i, p := range r.batch {
		s := &r.segs[i]
		if err := r.ctx.Err(); err != nil && s.Err != nil {
			yield(LogRecord{}, err)
			return false
		}
		r.take(&p, s)
		if !yield(p.LogRecord, nil) {
			return false
		}
	}
	r.batch, r.bytes = r.batch[:0], 0
	return true
}

// take puts the text in. The block must have the number of the descriptor.
func (r *ring) take(p *pending, s *remora.Seg) {
	switch {
	case p.size == 0 || p.Lost:
		return
	case s.Err != nil:
		p.Err = remora.SegFault(r.ctx, r.k.mem, remora.Read, s)
	}
	if s.N < logBlockID {
		return
	}
	if binary.LittleEndian.Uint64(s.Buf) != p.id {
		p.Lost = true
		return
	}
	p.Text = string(s.Buf[logBlockID:s.N])
}

// again marks the records of the batch whose descriptors were taken for others
// meanwhile: their text is not theirs.
func (r *ring) again() {
	states := make([]byte, 8*len(r.batch))
	segs := make([]remora.Seg, len(r.batch))
	for i, p := range r.batch {
		segs[i] = remora.Seg{Addr: r.descAt + remora.Addr(p.id&(1<<r.descBits-1)*r.desc+r.state.off), Buf: states[8*i : 8*i+8]}
	}
	_, _ = r.k.mem.ReadV(r.ctx, segs) // it is in the segments
	for i := range segs {
		if segs[i].Err != nil || !written(binary.LittleEndian.Uint64(segs[i].Buf), r.batch[i].id) {
			r.batch[i].Lost = true
		}
	}
}

// blockAt gives where in the ring of text the block from begin to next is. A block that
// does not fit before the ring's end is at its beginning. One that ends at the ring's
// end does fit.
func (r *ring) blockAt(begin, next uint64) (from, size uint64, ok bool) {
	whole := uint64(1) << r.textBits
	mask := whole - 1
	if (begin|next)&1 != 0 || next-begin > whole || next == begin {
		return 0, 0, false
	}
	from, size = begin&mask, next-begin
	if begin>>r.textBits != (next-1)>>r.textBits {
		if from, size = 0, next&mask; size == 0 {
			size = whole
		}
	}
	return from, size, size >= logBlockID
}

func cString(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/remora-go/remora"
)

// The log of kernels 3.5 to 5.9 (struct printk_log in kernel/printk/printk.c, struct log
// before 3.11): a buffer of records, each a header, the text, and a dictionary of
// KEY=VALUE with NUL between them. A record of length 0 says that the next one is at the
// buffer's beginning.

const (
	maxLogBuffer = 1 << 31 // the largest one that the kernel makes (LOG_BUF_LEN_MAX)
	maxLogRecord = 1 << 16 // its length has 16 bits
)

// recordLayout is where the members of a record's header are.
type recordLayout struct {
	header                       uint64 // its size
	ts, size, text, dict, caller field
}

// recordLayout finds out the layout.
func (k *Kernel) recordLayout(ctx context.Context) (*recordLayout, error) {
	name := "printk_log"
	if _, ok := k.VMCoreInfo().Value("SIZE(log)"); ok {
		name = "log"
	}
	half := field{size: 2, there: true}
	l := &recordLayout{ts: field{size: 8, there: true}, size: half, text: half, dict: half}
	err := k.described(ctx, wanted{&l.ts, name + ".ts_nsec", false}, wanted{&l.size, name + ".len", false},
		wanted{&l.text, name + ".text_len", false}, wanted{&l.dict, name + ".dict_len", true})
	if err != nil {
		return nil, err
	}
	if !l.dict.has() { // it has always been behind text_len
		l.dict = field{off: l.text.off + 2, size: 2, there: true}
	}
	if l.header, err = k.sized(ctx, name); err != nil {
		return nil, err
	}
	// Behind the length of the dictionary there are u8 facility, u8 flags:5, u8 level:3,
	// and with CONFIG_PRINTK_CALLER since 5.1 u32 caller_id.
	if at := l.dict.off + 4; at+4 <= l.header {
		l.caller = field{off: at, size: 4, there: true}
	}
	for _, f := range []field{l.ts, l.size, l.text, l.dict, {off: l.dict.off, size: 4}} {
		if f.off+uint64(f.size) > l.header {
			return nil, fmt.Errorf("%s: a member of struct %s is at %d, behind the end of %d bytes: %w", k.info.Name, name, f.off, l.header, remora.ErrCorrupt)
		}
	}
	return l, nil
}

// records is the log of a kernel.
type records struct {
	*recordLayout
	ctx         context.Context
	k           *Kernel
	at          remora.Addr // the buffer
	length      uint64      // of the buffer
	first, next uint64      // the oldest record, and where the next one will be
	seq         uint64
	chunk       []byte // of the buffer, at from
	from        uint64
}

// logRecords gives the records of the log.
func (k *Kernel) logRecords(ctx context.Context, yield func(LogRecord, error) bool) error {
	l, err := k.recordLayout(ctx)
	if err != nil {
		return err
	}
	r := &records{recordLayout: l, ctx: ctx, k: k}
	if err := r.open(); err != nil {
		return err
	}
	wrapped := r.first < r.next // it may go on at the beginning once
	for at := r.first; at != r.next; {
		if at+r.header > r.length || wrapped && at > r.next {
			return r.bad(at, "a record there is beyond the end")
		}
		if err := r.have(at, r.header); err != nil {
			return err
		}
		size := at64(r.chunk[at-r.from:], r.size)
		switch {
		case size == 0 && wrapped:
			return r.bad(at, "a record of no length")
		case size == 0:
			at, wrapped = 0, true
			continue
		}
		if size < r.header || size > min(r.length-at, maxLogRecord) {
			return r.bad(at, fmt.Sprintf("a record of %d bytes", size))
		}
		if err := r.have(at, size); err != nil {
			return err
		}
		if !yield(r.record(r.chunk[at-r.from:][:size]), nil) {
			return nil
		}
		if at += size; at >= r.length && !wrapped {
			at, wrapped = 0, true
		}
		r.seq++
	}
	return nil
}

func (r *records) bad(at uint64, what string) error {
	return fmt.Errorf("%s: the log at %v: %s at offset 0x%x of 0x%x; it is from 0x%x to 0x%x: %w", r.k.info.Name, r.at, what, at, r.length, r.first, r.next, remora.ErrCorrupt)
}

// open reads where the log is.
func (r *records) open() error {
	in := r.k.reader(r.ctx)
	get := func(name string, size uint32) uint64 {
		at, err := r.k.noted(r.ctx, name)
		if err != nil && in.err == nil {
			in.err = err
		}
		return in.uint(at, field{size: size})
	}
	r.at, r.length = remora.Addr(get("log_buf", 8)), get("log_buf_len", 4)
	r.first, r.next = get("log_first_idx", 4), get("log_next_idx", 4)
	if in.err != nil {
		return in.err
	}
	if at, err := r.k.noted(r.ctx, "log_first_seq"); err == nil { // VMCOREINFO never has it
		r.seq = in.uint(at, field{size: 8})
	}
	if in.err != nil {
		return in.err
	}
	if r.length == 0 || r.length > maxLogBuffer || r.first > r.length || r.next > r.length || wraps(r.at, r.length) {
		return r.bad(0, "no log is")
	}
	return r.ctx.Err()
}

// have reads size bytes of the buffer at an offset, and what follows, if they are not
// there.
func (r *records) have(at, size uint64) error {
	if at >= r.from && at+size <= r.from+uint64(len(r.chunk)) {
		return nil
	}
	r.from, r.chunk = at, resize(r.chunk, min(logChunk, r.length-at))
	n, err := r.k.mem.ReadAt(r.ctx, r.chunk, r.at+remora.Addr(at))
	if uint64(n) >= size {
		r.chunk, err = r.chunk[:n], nil
	}
	return err
}

// record decodes a record. What its lengths do not leave room for is cut off.
func (r *records) record(b []byte) LogRecord {
	flags := at64(b, field{off: r.dict.off + 2, size: 2})
	rec := LogRecord{Seq: r.seq, Time: time.Duration(min(at64(b, r.ts), math.MaxInt64)), Facility: uint8(flags), Level: uint8(flags >> 13)}
	if r.caller.has() {
		rec.Caller = LogCaller(at64(b, r.caller))
	}
	rest := b[r.header:]
	text := min(at64(b, r.text), uint64(len(rest)))
	rec.Text = string(rest[:text])
	rest = rest[text:]
	for pair := range bytes.SplitSeq(rest[:min(at64(b, r.dict), uint64(len(rest)))], []byte{0}) {
		if v, ok := strings.CutPrefix(string(pair), "SUBSYSTEM="); ok {
			rec.Subsystem = v
		} else if v, ok := strings.CutPrefix(string(pair), "DEVICE="); ok {
			rec.Device = v
		}
	}
	return rec
}

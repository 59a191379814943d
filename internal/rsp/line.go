// SPDX-License-Identifier: Apache-2.0

package rsp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// mark is what came over the line.
type mark uint8

const (
	markPacket mark = iota
	markAck
	markNak
	markBad // a packet whose checksum is wrong
)

// maxNoise is how many bytes outside of packets are passed over in a row.
const maxNoise = 4096

// line is the connection, and what was read of it but not yet taken.
type line struct {
	conn    net.Conn
	timeout time.Duration
	buf     []byte
	lo, hi  int
	seen    int    // bytes from lo on in which no packet ends
	noise   int    // bytes outside of packets since the last one
	sample  []byte // the first of them
	packet  []byte // the payload that was last given out
	strict  bool   // bad checksums are the end: nothing is sent again
}

// errSilent says that nothing came for as long as the stub may be silent.
var errSilent = errors.New("it is silent")

// write sends b.
func (l *line) write(ctx context.Context, b []byte) error {
	defer l.bound(ctx, l.conn.SetWriteDeadline)()
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := l.conn.Write(b)
	return l.why(ctx, err)
}

// bound ends what is begun next after the timeout, and when ctx ends, until release.
func (l *line) bound(ctx context.Context, set func(time.Time) error) (release func()) {
	_ = set(time.Now().Add(l.timeout)) // a connection that is closed says so when it is used
	if ctx.Done() == nil {
		return func() {}
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = set(time.Unix(1, 0))
		close(ended)
	})
	return func() {
		if !stop() { // it must not come after the next deadline
			<-ended
		}
	}
}

// why tells a context that ended and silence from other errors.
func (l *line) why(ctx context.Context, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(l.sample) > 0 {
			return fmt.Errorf("it says what is no packet, and then nothing: %.40q", l.sample)
		}
		return errSilent
	}
	return err
}

// fill reads more. What was read stays, also when ctx ends.
func (l *line) fill(ctx context.Context) error {
	if l.lo > 0 {
		l.hi = copy(l.buf, l.buf[l.lo:l.hi])
		l.lo = 0
	}
	if l.hi == len(l.buf) {
		if len(l.buf) > 2*maxPayload {
			return errTooLong
		}
		l.buf = append(l.buf, make([]byte, max(64<<10, len(l.buf)))...)
	}
	defer l.bound(ctx, l.conn.SetReadDeadline)()
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := l.conn.Read(l.buf[l.hi:])
	if l.hi += n; n > 0 {
		return nil
	}
	return l.why(ctx, err)
}

// next gives the next thing that came. A payload is valid until the next call.
func (l *line) next(ctx context.Context) (mark, []byte, error) {
	for {
		m, payload, err := l.take()
		if err != errMore {
			return m, payload, err
		}
		if err := l.fill(ctx); err != nil {
			return 0, nil, err
		}
	}
}

// errMore says that what was read is no whole packet yet.
var errMore = errors.New("more is needed")

// take gives the next thing out of what was read.
func (l *line) take() (mark, []byte, error) {
	for l.lo < l.hi {
		switch c := l.buf[l.lo]; c {
		case '+':
			l.lo++
			return markAck, nil, nil
		case '-':
			l.lo++
			return markNak, nil, nil
		case '$', '%':
			m, payload, err := l.takePacket()
			if err == nil && c == '%' { // a notification: nothing here waits for one, and none is sent again
				continue
			}
			return m, payload, err
		default:
			if l.noise++; l.noise > maxNoise {
				return 0, nil, fmt.Errorf("it says what is no packet: %.40q", l.sample)
			}
			if len(l.sample) < 40 {
				l.sample = append(l.sample, c)
			}
			l.lo++
		}
	}
	return 0, nil, errMore
}

// takePacket gives the packet that what was read begins with.
func (l *line) takePacket() (mark, []byte, error) {
	b := l.buf[l.lo:l.hi]
	end := bytes.IndexByte(b[l.seen:], '#')
	if end < 0 {
		if l.seen = len(b); len(b) > maxPayload {
			return 0, nil, errTooLong
		}
		return 0, nil, errMore
	}
	if end += l.seen; end+3 > len(b) {
		l.seen = end
		return 0, nil, errMore
	}
	raw := b[1:end]
	if again := bytes.LastIndexByte(raw, '$'); again >= 0 { // it began anew
		raw = raw[again+1:]
	}
	hi, lo := unhex(b[end+1]), unhex(b[end+2])
	l.lo += end + 3
	l.seen = 0
	l.noise, l.sample = 0, l.sample[:0]
	if hi|lo > 15 || hi<<4|lo != checksum(raw) {
		if l.strict {
			return 0, nil, errors.New("a packet with a wrong checksum")
		}
		return markBad, nil, nil
	}
	var err error
	l.packet, err = expand(l.packet[:0], raw, maxPayload)
	return markPacket, l.packet, err
}

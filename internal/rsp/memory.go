// SPDX-License-Identifier: Apache-2.0

package rsp

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// ErrInDoubt is with the error of a write that was sent, and whose answer is not known.
var ErrInDoubt = errors.New("the write was sent, and its answer is not known")

// Sizes that are tried when a stub refuses one as too long.
const (
	leastRead  = 16
	codeTooBig = 0x22 // QEMU's for a request that does not fit
)

// Chunk is how many bytes one packet reads at most.
func (c *Client) Chunk() int { return int(c.readMost.Load()) }

// Read reads len(p) bytes at a. n is the length of a prefix that was read; the packet that
// begins there was refused with err, an *Error, or was answered only in part. The byte
// that is at fault is n or one behind it, at most Chunk bytes away.
func (c *Client) Read(ctx context.Context, p []byte, a uint64) (n int, err error) {
	for n < len(p) {
		most := c.Chunk()
		got, err := c.readOnce(ctx, p[n:], a+uint64(n), most)
		n += got
		if err == nil && got > 0 {
			continue
		}
		if e, ok := errors.AsType[*Error](err); ok && e.Code == codeTooBig && min(most, len(p)-n) > leastRead {
			c.readMost.CompareAndSwap(int64(most), int64(max(most/2, leastRead)))
			continue
		}
		return n, err
	}
	return n, nil
}

// Part is memory to be read with others.
type Part struct {
	Addr uint64
	Buf  []byte // at most Chunk bytes
	OK   bool   // all of Buf was read
}

// ReadEach reads parts, each with a packet of its own, several of which are on their way at
// once. Why one could not be read Read tells. The error is that of the conversation.
func (c *Client) ReadEach(ctx context.Context, parts []Part) error {
	binary := c.binaryRead.Load()
	return c.batch(ctx, len(parts), func(b []byte, i int) []byte {
		return appendRead(b, binary, parts[i].Addr, len(parts[i].Buf))
	}, func(i int, b []byte) error {
		p := &parts[i]
		n, err := readAnswer(p.Buf, b, binary)
		p.OK = err == nil && n == len(p.Buf)
		if _, no := errors.AsType[*Error](err); err == nil || no || errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		return c.broken("reading memory", err)
	})
}

// appendRead adds a request to read n bytes at a.
func appendRead(b []byte, binary bool, a uint64, n int) []byte {
	op := byte('m')
	if binary {
		op = 'x'
	}
	b = strconv.AppendUint(append(b, op), a, 16)
	return strconv.AppendUint(append(b, ','), uint64(n), 16)
}

// readOnce reads a prefix of p, in packets of one size.
func (c *Client) readOnce(ctx context.Context, p []byte, a uint64, most int) (int, error) {
	binary := c.binaryRead.Load()
	count := (len(p) + most - 1) / most
	part := func(i int) []byte { return p[i*most : min((i+1)*most, len(p))] }
	short, why := len(p), error(nil) // the end of what is complete
	err := c.batch(ctx, count, func(b []byte, i int) []byte {
		return appendRead(b, binary, a+uint64(i*most), len(part(i)))
	}, func(i int, b []byte) error {
		n, err := readAnswer(part(i), b, binary)
		if err == nil && n == len(part(i)) {
			return nil
		}
		if at := i*most + n; at < short {
			short, why = at, err
		}
		if _, ok := errors.AsType[*Error](err); err != nil && !ok && !errors.Is(err, errors.ErrUnsupported) {
			err = c.broken("reading memory", err)
			why = err
		}
		return errShort
	})
	switch {
	case err == errShort && binary && errors.Is(why, errors.ErrUnsupported):
		c.binaryRead.Store(false)
		return c.readOnce(ctx, p, a, most)
	case err == errShort:
		return short, why
	case err != nil:
		return 0, err // with requests on their way it is not known which were answered
	}
	return len(p), nil
}

// errShort ends a run of reads.
var errShort = errors.New("not all was read")

// readAnswer decodes the answer to a read of len(p) bytes.
func readAnswer(p, b []byte, binary bool) (int, error) {
	if err := refused("m", b); err != nil {
		return 0, err
	}
	if binary {
		if b[0] != 'b' {
			return 0, fmt.Errorf("an answer that begins with %q", b[0])
		}
		data, err := unescape(b[1:])
		if err == nil && len(data) > len(p) {
			err = fmt.Errorf("%d bytes where %d were asked for", len(data), len(p))
		}
		return copy(p, data), err
	}
	if len(b) > 2*len(p) {
		return 0, fmt.Errorf("%d digits where %d bytes were asked for", len(b), len(p))
	}
	if !decodeHex(p, b) {
		return 0, errors.New("what is no hexadecimal number of bytes")
	}
	return len(b) / 2, nil
}

// Write writes p at a, packet by packet. n is the length of the prefix that was written;
// what the packet behind it changed is not known.
func (c *Client) Write(ctx context.Context, p []byte, a uint64) (n int, err error) {
	for n < len(p) {
		part := p[n:min(n+c.writeMost, len(p))]
		if err := c.writeOnce(ctx, part, a+uint64(n)); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

func (c *Client) writeOnce(ctx context.Context, p []byte, a uint64) error {
	sent, plain := false, c.plainWrite.Load()
	var refusal error
	err := c.batch(ctx, 1, func(b []byte, _ int) []byte {
		sent = true
		op := byte('X')
		if plain {
			op = 'M'
		}
		b = strconv.AppendUint(append(b, op), a, 16)
		b = append(strconv.AppendUint(append(b, ','), uint64(len(p)), 16), ':')
		if plain {
			return appendHex(b, p...)
		}
		return appendEscaped(b, p)
	}, func(_ int, b []byte) error {
		if refusal = refused("X", b); refusal == nil && string(b) != "OK" {
			refusal = c.broken("writing memory", fmt.Errorf("an answer that is not OK: %.20q", b))
		}
		return nil
	})
	switch {
	case err != nil && sent && ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrInDoubt, err)
	case err != nil:
		return err
	case !plain && errors.Is(refusal, errors.ErrUnsupported):
		c.plainWrite.Store(true)
		return c.writeOnce(ctx, p, a)
	}
	return refusal
}

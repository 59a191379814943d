// SPDX-License-Identifier: Apache-2.0

package rsp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Limits of a conversation.
const (
	defaultTimeout = 10 * time.Second
	depth          = 16 // requests on the way at once
	maxTries       = 4  // of one packet
	maxBad         = 8  // packets in a row with a wrong checksum
	defaultPacket  = 400
	minPacket      = 64
	maxPacket      = 256 << 10
)

// Options are how a stub is spoken to. Nil is the same as the zero Options.
type Options struct {
	Timeout time.Duration // that the stub may be silent; 0: 10 s
	// Interrupt sends an interrupt to a stub that is silent at first, as one is whose
	// target runs. What was interrupted so Detach lets run again.
	Interrupt bool
	// Farewell is a packet for a stub that does not answer at first: it may be one that
	// serves somebody else, and hears all that was said here once he has gone.
	Farewell string
}

// Error is an answer that refuses a request.
type Error struct {
	Request string // its beginning
	Code    int    // of "E NN"; -1 where the stub has a text
	Text    string
}

func (e *Error) Error() string {
	if e.Code < 0 {
		return fmt.Sprintf("the stub refuses %q: %q", e.Request, e.Text)
	}
	return fmt.Sprintf("the stub refuses %q: error %02x", e.Request, e.Code)
}

// BrokenError says that the conversation has ended, and why.
type BrokenError struct {
	Peer string
	What string // what was waited for
	Err  error
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("gdb stub %s: %s: %v", e.Peer, e.What, e.Err)
}

// Unwrap gives what ended it.
func (e *BrokenError) Unwrap() error { return e.Err }

// Silent says whether err is the end of a conversation because nothing came.
func Silent(err error) bool { return errors.Is(err, errSilent) }

// Client is one conversation with a stub.
type Client struct {
	peer  string
	lock  chan struct{} // a place for the one who speaks
	line  line
	acks  bool // packets are acknowledged
	deep  int  // requests on the way at once
	dead  atomic.Pointer[BrokenError]
	round uint64
	out   []byte

	unacked []*flight // sent, and not yet acknowledged
	waiting []*flight // acknowledged, and not yet answered
	spare   []*flight

	packet      int          // bytes of the longest packet that the stub takes
	readMost    atomic.Int64 // bytes of memory that are asked for at once
	writeMost   int
	binaryRead  atomic.Bool
	plainWrite  atomic.Bool // X is not known
	offers      map[string]string
	stop        Stop
	interrupted bool
}

// flight is a request on its way.
type flight struct {
	round uint64 // to which it belongs
	i     int
	tries int
	frame []byte
}

// New opens the conversation with the stub behind conn, which it owns from then on, also
// when it fails. peer is its name in messages. The target of most stubs is stopped from
// then on.
func New(ctx context.Context, conn net.Conn, peer string, o *Options) (*Client, error) {
	c := &Client{peer: peer, lock: make(chan struct{}, 1), acks: true, deep: 1}
	c.line = line{conn: conn, timeout: defaultTimeout}
	if o != nil && o.Timeout > 0 {
		c.line.timeout = o.Timeout
	}
	if err := c.open(ctx, o != nil && o.Interrupt); err != nil {
		if o != nil && o.Farewell != "" && (Silent(err) || ctx.Err() != nil) {
			_ = c.line.write(context.WithoutCancel(ctx), appendFrame(nil, []byte(o.Farewell))) // nobody may be there
		}
		conn.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return c, nil
}

// hello is what gdb offers as well, as far as it is used here: without xmlRegisters some
// stubs keep the description of the target to themselves.
const hello = "qSupported:multiprocess+;xmlRegisters=i386;error-message+"

func (c *Client) open(ctx context.Context, wake bool) error {
	whole := c.line.timeout
	if wake {
		c.line.timeout = whole / 4
	}
	err := c.line.write(ctx, []byte{'+'})
	var answer []byte
	if err == nil {
		answer, err = c.greet(ctx)
	}
	if wake && Silent(err) {
		// The answer may still come, with that to the interrupt.
		c.dead.Store(nil)
		c.interrupted, c.line.timeout = true, whole
		if err = c.line.write(ctx, []byte{interrupt}); err == nil {
			answer, err = c.woken(ctx)
		}
	}
	c.line.timeout = whole
	if err != nil {
		return c.broken("its first answer", err)
	}
	c.offers = parseOffers(string(answer))
	c.packet = defaultPacket
	if s, ok := c.offers["PacketSize"]; ok {
		n, err := strconv.ParseUint(s, 16, 64)
		if err != nil || n < minPacket {
			return c.broken("its first answer", fmt.Errorf("packets of %.20q bytes are not enough: %d are", s, minPacket))
		}
		c.packet = int(min(n, maxPacket))
	}
	c.readMost.Store(int64(c.packet-4) / 2)
	c.writeMost = (c.packet - 48) / 2
	_, binary := c.offers["binary-upload"]
	c.binaryRead.Store(binary)
	if _, ok := c.offers["QStartNoAckMode"]; ok {
		answer, err := c.Do(ctx, []byte("QStartNoAckMode"))
		if err != nil {
			return err
		}
		if string(answer) == "OK" {
			c.acks, c.line.strict, c.deep = false, true, depth
		}
	}
	answer, err = c.Do(ctx, []byte("?"))
	if err != nil {
		return err
	}
	c.stop = parseStop(string(answer))
	return nil
}

// greet asks what the stub has. One that stops its target for a new connection may tell
// of that first.
func (c *Client) greet(ctx context.Context) (answer []byte, err error) {
	err = c.batch(ctx, 1, func(b []byte, _ int) []byte { return append(b, hello...) }, func(_ int, b []byte) error {
		if len(b) >= 3 && (b[0] == 'S' || b[0] == 'T') && unhex(b[1])|unhex(b[2]) <= 15 {
			return errGoOn
		}
		answer = append([]byte(nil), b...)
		return nil
	})
	return answer, err
}

// woken awaits the stop that an interrupt makes, and asks once more.
func (c *Client) woken(ctx context.Context) ([]byte, error) {
	c.forget()
	for {
		m, b, err := c.line.next(ctx)
		if err != nil {
			return nil, err
		}
		if m == markPacket {
			_ = c.line.write(ctx, []byte{'+'})
			if len(b) > 0 && (b[0] == 'S' || b[0] == 'T') {
				return c.greet(ctx)
			}
			return append([]byte(nil), b...), nil
		}
	}
}

// forget drops all that is on the way.
func (c *Client) forget() {
	c.spare = append(append(c.spare, c.unacked...), c.waiting...)
	c.unacked, c.waiting = c.unacked[:0], c.waiting[:0]
}

// parseOffers takes apart the answer to qSupported: what the stub has, with the value.
func parseOffers(s string) map[string]string {
	all := map[string]string{}
	for _, f := range strings.Split(s, ";") {
		if name, value, ok := strings.Cut(f, "="); ok {
			all[name] = value
		} else if name, ok := strings.CutSuffix(f, "+"); ok {
			all[name] = "+"
		}
	}
	return all
}

// Offers says whether the stub told of a feature, and its value.
func (c *Client) Offers(feature string) (value string, ok bool) {
	value, ok = c.offers[feature]
	return value, ok
}

// Peer is the name of the stub.
func (c *Client) Peer() string { return c.peer }

// Stop is how the target was found.
func (c *Client) Stop() Stop { return c.stop }

// Interrupted says whether the target ran until it was interrupted here.
func (c *Client) Interrupted() bool { return c.interrupted }

// Acks says whether packets are acknowledged.
func (c *Client) Acks() bool { return c.acks }

// PacketSize is how long a packet may be, in bytes.
func (c *Client) PacketSize() int { return c.packet }

// Pipeline lets requests go out before earlier ones are answered, also while packets are
// acknowledged. It is for stubs of which it is known that they take that, as QEMU's does.
func (c *Client) Pipeline() { c.deep = depth }

// ReadUpTo says that a read of n bytes is taken, and answered in a packet that is longer
// than PacketSize if need be.
func (c *Client) ReadUpTo(n int) { c.readMost.Store(int64(n)) }

// broken ends the conversation.
func (c *Client) broken(what string, err error) error {
	b, ok := errors.AsType[*BrokenError](err)
	if !ok {
		b = &BrokenError{c.peer, what, err}
	}
	c.dead.CompareAndSwap(nil, b)
	return c.dead.Load()
}

// Close closes the connection, with nothing said. What becomes of the target is up to the
// stub: see Detach.
func (c *Client) Close() error { return c.line.conn.Close() }

// Connection gives a copy of the connection.
func (c *Client) Connection() (*os.File, error) {
	f, ok := c.line.conn.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("gdb stub %s: its connection has no file: %w", c.peer, errors.ErrUnsupported)
	}
	return f.File()
}

// LastWords gives what makes a stub of QEMU's let its machine run, whatever was said
// before: half a packet may be on the way, which the first bytes end, or all is said and
// the machine runs, which the first byte stops. It must not detach, since to detach twice
// ends QEMU (7.2), and it must end with what lets the machine run. physical is the mode in
// which addresses are left.
func (c *Client) LastWords(physical bool) []byte {
	b := []byte("#00")
	for range 2 { // the first may be taken for a part of what was there before
		b = appendFrame(b, physicalMode(physical))
	}
	return appendFrame(b, []byte("c"))
}

// Say sends b as it is, also where the conversation has ended. Nothing is answered, and it
// is not known whether it is heard.
func (c *Client) Say(ctx context.Context, b []byte) { _ = c.line.write(ctx, b) }

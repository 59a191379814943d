// SPDX-License-Identifier: Apache-2.0

package rsp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
)

// errGoOn says that an answer was not the last one to its request.
var errGoOn = errors.New("more answers come")

// batch sends n requests, several at once, and hands each its answer; answers may come in
// another order where one was lost. ask adds request i to b. After the first error of
// answer no more are sent, those on the way are answered, and it is given back.
func (c *Client) batch(ctx context.Context, n int, ask func(b []byte, i int) []byte, answer func(i int, b []byte) error) error {
	select {
	case c.lock <- struct{}{}:
		defer func() { <-c.lock }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if dead := c.dead.Load(); dead != nil {
		return dead
	}
	c.round++
	var first error
	due := true // to be sent now; acknowledgements can wait while other requests are on their way
	for sent, got := 0, 0; got < sent || first == nil && sent < n; {
		if len(c.waiting)+len(c.unacked) <= c.deep/2 { // several in one packet of the network's
			for first == nil && sent < n && len(c.waiting)+len(c.unacked) < c.deep {
				c.launch(ask, sent)
				sent++
				due = true
			}
		}
		if due {
			if err := c.send(ctx); err != nil {
				return err
			}
		}
		f, b, err := c.reply(ctx)
		if err != nil {
			return err
		}
		due = c.deep == 1
		if f.round != c.round { // it came late
			c.land(f)
			continue
		}
		err = answer(f.i, b)
		if err == errGoOn { // the loop sends the acknowledgement
			due = true
			continue
		}
		if got++; err != nil && first == nil {
			first = err
		}
		c.land(f)
	}
	if err := c.send(ctx); err != nil && first == nil { // the last acknowledgement
		first = err
	}
	return first
}

// launch adds a request to what is to be sent.
func (c *Client) launch(ask func(b []byte, i int) []byte, i int) {
	f := &flight{}
	if n := len(c.spare); n > 0 {
		f, c.spare = c.spare[n-1], c.spare[:n-1]
	}
	at := len(c.out)
	c.out = append(c.out, '$')
	c.out = ask(c.out, i)
	sum := checksum(c.out[at+1:])
	c.out = append(c.out, '#', hexDigits[sum>>4], hexDigits[sum&15])
	f.round, f.i, f.tries = c.round, i, 1
	if c.acks {
		f.frame = append(f.frame[:0], c.out[at:]...)
		c.unacked = append(c.unacked, f)
	} else {
		f.frame = append(f.frame[:0], c.out[at:min(len(c.out), at+mostNamed+1)]...)
		c.waiting = append(c.waiting, f)
	}
}

// mostNamed is how much of a request is named in an error.
const mostNamed = 24

// land takes the first request that waits as answered.
func (c *Client) land(f *flight) {
	if len(c.waiting) > 0 && c.waiting[0] == f {
		c.waiting = slices.Delete(c.waiting, 0, 1)
		c.spare = append(c.spare, f)
	}
}

// send sends what is to be sent, whatever becomes of ctx: of a part nothing that follows
// could be understood. Not to be able to send ends the conversation.
func (c *Client) send(ctx context.Context) error {
	if len(c.out) == 0 {
		return nil
	}
	if err := c.line.write(context.WithoutCancel(ctx), c.out); err != nil {
		return c.broken("sending a request", err)
	}
	c.out = c.out[:0]
	return nil
}

// reply awaits an answer, and gives the request that it belongs to. ctx ending leaves all
// as it is.
func (c *Client) reply(ctx context.Context) (*flight, []byte, error) {
	bad := 0
	for {
		m, b, err := c.line.next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			return nil, nil, c.broken(c.awaited(), err)
		}
		switch m {
		case markAck:
			if len(c.unacked) > 0 {
				c.waiting = append(c.waiting, c.unacked[0])
				c.unacked = slices.Delete(c.unacked, 0, 1)
			}
		case markNak:
			if err := c.again(ctx); err != nil {
				return nil, nil, err
			}
		case markBad:
			if bad++; bad > maxBad {
				return nil, nil, c.broken(c.awaited(), fmt.Errorf("%d packets in a row with wrong checksums", bad))
			}
			if err := c.misheard(ctx); err != nil {
				return nil, nil, err
			}
		case markPacket:
			if c.acks { // it goes with the next request
				c.out = append(c.out, '+')
			}
			c.answered()
			if len(c.waiting) == 0 {
				continue // an answer to nothing
			}
			return c.waiting[0], b, nil
		}
	}
}

// answered takes an answer as an acknowledgement where there was none.
func (c *Client) answered() {
	if len(c.waiting) == 0 && len(c.unacked) > 0 {
		c.waiting = append(c.waiting, c.unacked[0])
		c.unacked = slices.Delete(c.unacked, 0, 1)
	}
}

// misheard has an answer come again. The stub would send its last one, which with other
// requests on the way is another one: then the request, a read, goes out once more.
func (c *Client) misheard(ctx context.Context) error {
	c.answered()
	if len(c.waiting)+len(c.unacked) < 2 {
		c.out = append(c.out, '-')
		return c.send(ctx)
	}
	c.out = append(c.out, '+')
	if len(c.waiting) == 0 {
		return c.send(ctx)
	}
	f := c.waiting[0]
	c.waiting = slices.Delete(c.waiting, 0, 1)
	c.unacked = append(c.unacked, f)
	c.out = append(c.out, f.frame...)
	return c.send(ctx)
}

// again sends once more what the stub did not understand.
func (c *Client) again(ctx context.Context) error {
	if len(c.unacked) == 0 {
		return nil
	}
	f := c.unacked[0]
	if f.tries++; f.tries > maxTries {
		return c.broken(c.awaited(), fmt.Errorf("it refused the packet %d times", maxTries))
	}
	c.unacked = append(slices.Delete(c.unacked, 0, 1), f)
	c.out = append(c.out, f.frame...)
	return c.send(ctx)
}

// awaited says what is waited for.
func (c *Client) awaited() string {
	for _, f := range append(slices.Clone(c.waiting), c.unacked...) {
		request, _, _ := bytes.Cut(f.frame[1:], []byte{'#'})
		return fmt.Sprintf("the answer to %q", request[:min(len(request), mostNamed)])
	}
	return "an answer"
}

// Do sends one request, and gives the answer: nothing where the stub does not know it.
func (c *Client) Do(ctx context.Context, request []byte) (reply []byte, err error) {
	err = c.batch(ctx, 1, func(b []byte, _ int) []byte { return append(b, request...) }, func(_ int, b []byte) error {
		reply = append([]byte(nil), b...)
		return nil
	})
	return reply, err
}

// ask is Do for a request whose answer must be neither an error nor nothing.
func (c *Client) ask(ctx context.Context, request string) ([]byte, error) {
	b, err := c.Do(ctx, []byte(request))
	if err != nil {
		return nil, err
	}
	return b, refused(request, b)
}

// refused gives the error that an answer is, or nil.
func refused(request string, b []byte) error {
	const most = 40
	request = request[:min(len(request), most)]
	switch {
	case len(b) == 0:
		return fmt.Errorf("the stub does not know %q: %w", request, errors.ErrUnsupported)
	case len(b) == 3 && b[0] == 'E' && unhex(b[1])|unhex(b[2]) <= 15:
		return &Error{Request: request, Code: int(unhex(b[1])<<4 | unhex(b[2]))}
	case len(b) >= 2 && b[0] == 'E' && b[1] == '.':
		return &Error{Request: request, Code: -1, Text: string(b[2:min(len(b), 200)])}
	}
	return nil
}

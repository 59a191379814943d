// SPDX-License-Identifier: Apache-2.0

package rsp_test

import (
	"bytes"
	"net"
	"sync/atomic"
	"testing"

	"github.com/remora-go/remora/internal/rsp"
	"github.com/remora-go/remora/internal/rsp/rsptest"
)

// counted counts the writes to a connection.
type counted struct {
	net.Conn
	writes atomic.Int32
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// TestReadEach reads many parts, some of which cannot be read: each says whether it was, and
// with a pipeline many are asked for at once.
func TestReadEach(t *testing.T) {
	for name, s := range map[string]*rsptest.Stub{
		"acks": {}, "no acks": {NoAck: true}, "binary": {Binary: true}, "bad sums": {Fault: every(11, rsptest.BadSum)},
	} {
		t.Run(name, func(t *testing.T) {
			data := noise(100_000)
			s.Virtual = []rsptest.Area{{Start: base, Data: data}}
			conn, err := net.Dial("tcp", s.Start(t))
			if err != nil {
				t.Fatal(err)
			}
			wire := &counted{Conn: conn}
			c, err := rsp.New(t.Context(), wire, "the stub", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Pipeline()
			parts := make([]rsp.Part, 200)
			at := func(i int) int { return i * 7919 % 110_000 } // the last ones are beyond the end
			for i := range parts {
				parts[i] = rsp.Part{Addr: base + uint64(at(i)), Buf: make([]byte, 1+i%40)}
			}
			before := wire.writes.Load()
			if err := c.ReadEach(t.Context(), parts); err != nil {
				t.Fatal(err)
			}
			if n := wire.writes.Load() - before; n > 100 && s.Fault == nil {
				t.Errorf("%d writes for 200 requests", n)
			}
			for i, p := range parts {
				there := at(i)+len(p.Buf) <= len(data)
				if p.OK != there || there && !bytes.Equal(p.Buf, data[at(i):][:len(p.Buf)]) {
					t.Errorf("part %d at %d: %v, or other bytes", i, at(i), p.OK)
				}
			}
		})
	}
}

// TestReadEachBroken ends the conversation at an answer that makes no sense.
func TestReadEachBroken(t *testing.T) {
	for _, f := range []rsptest.Fault{rsptest.NotHex, rsptest.TooLong, rsptest.Drop} {
		armed := &atomic.Bool{}
		s := &rsptest.Stub{NoAck: true, Virtual: []rsptest.Area{{Start: base, Data: noise(1000)}}, Fault: func(_ int, r string) rsptest.Fault {
			if armed.Load() && r[0] == 'm' {
				return f
			}
			return rsptest.None
		}}
		c := opened(t, s)
		armed.Store(true)
		parts := []rsp.Part{{Addr: base, Buf: make([]byte, 8)}, {Addr: base + 100, Buf: make([]byte, 8)}}
		if err := c.ReadEach(t.Context(), parts); err == nil || parts[0].OK {
			t.Errorf("fault %d: %v, and the first part is read: %v", f, err, parts[0].OK)
		}
	}
}

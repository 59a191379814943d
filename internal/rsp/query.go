// SPDX-License-Identifier: Apache-2.0

package rsp

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Limits of what is asked for.
const (
	maxObject  = 16 << 20 // bytes of a document, or of a file
	maxThreads = 1 << 16
)

// Thread names a thread of the target. The numbers are those of the stub; all of a guest's
// are its processors.
type Thread struct {
	PID int64 // 0: the stub does not tell
	TID int64
}

// String gives t as the protocol has it.
func (t Thread) String() string {
	if t.PID == 0 {
		return strconv.FormatInt(t.TID, 16)
	}
	return fmt.Sprintf("p%x.%x", t.PID, t.TID)
}

// parseThread reads "TID" or "pPID.TID". Either may be -1, for all.
func parseThread(s string) (t Thread, ok bool) {
	if rest, multi := strings.CutPrefix(s, "p"); multi {
		pid, tid, both := strings.Cut(rest, ".")
		n, err := strconv.ParseInt(pid, 16, 64)
		if t.PID = n; err != nil || n == 0 {
			return Thread{}, false
		}
		if s = tid; !both {
			return t, true
		}
	}
	n, err := strconv.ParseInt(s, 16, 64)
	if err != nil { // kgdb's own threads are written as 16 digits
		u, bad := strconv.ParseUint(s, 16, 64)
		n, err = int64(u), bad
	}
	t.TID = n
	return t, err == nil
}

// Stop is why the target stands.
type Stop struct {
	Signal int // 0 where nothing stands
	Thread Thread
	// Gone says that there is no target, or no more: it has ended, or the stub has none yet.
	Gone string
}

// parseStop reads a stop reply.
func parseStop(s string) (stop Stop) {
	switch {
	case s == "":
		return Stop{Gone: "the stub does not say how the target is"}
	case s[0] == 'W' || s[0] == 'X':
		return Stop{Gone: "the stub has no process, or one that has ended"}
	case (s[0] != 'S' && s[0] != 'T') || len(s) < 3:
		return Stop{Gone: fmt.Sprintf("the stub says %.20q of it", s)}
	}
	n, err := strconv.ParseUint(s[1:3], 16, 8)
	if err != nil {
		return Stop{Gone: fmt.Sprintf("the stub says %.20q of it", s)}
	}
	stop.Signal = int(n)
	for _, f := range strings.Split(s[3:], ";") {
		if name, value, _ := strings.Cut(f, ":"); name == "thread" {
			stop.Thread, _ = parseThread(value)
		}
	}
	return stop
}

// Threads lists the threads of the target.
func (c *Client) Threads(ctx context.Context) (all []Thread, err error) {
	for request := "qfThreadInfo"; ; request = "qsThreadInfo" {
		b, err := c.ask(ctx, request)
		if err != nil {
			return nil, err
		}
		if b[0] == 'l' {
			return all, nil
		}
		if b[0] != 'm' {
			return nil, fmt.Errorf("the list of threads begins with %.20q", b)
		}
		for _, s := range strings.Split(string(b[1:]), ",") {
			t, ok := parseThread(s)
			if !ok || len(all) >= maxThreads {
				return nil, fmt.Errorf("the list of threads has %.20q as number %d", s, len(all))
			}
			all = append(all, t)
		}
	}
}

// Select makes t the thread whose registers and memory are meant.
func (c *Client) Select(ctx context.Context, t Thread) error {
	return c.okay(ctx, "Hg"+t.String())
}

// okay gives a command whose answer must be OK.
func (c *Client) okay(ctx context.Context, request string) error {
	b, err := c.ask(ctx, request)
	if err == nil && string(b) != "OK" {
		err = &Error{Request: request, Code: -1, Text: string(b[:min(len(b), 40)])}
	}
	return err
}

// Object reads a document or another thing that the stub has of the target (qXfer).
func (c *Client) Object(ctx context.Context, object, annex string) ([]byte, error) {
	if _, ok := c.offers["qXfer:"+object+":read"]; !ok {
		return nil, fmt.Errorf("the stub has no %s of its target: %w", object, errors.ErrUnsupported)
	}
	var all []byte
	for {
		request := fmt.Sprintf("qXfer:%s:read:%s:%x,%x", object, annex, len(all), c.packet-5)
		b, err := c.ask(ctx, request)
		if err != nil {
			return nil, err
		}
		data, err := unescape(b[1:])
		if err != nil {
			return nil, c.broken(object, err)
		}
		all = append(all, data...)
		switch {
		case b[0] == 'l':
			return all, nil
		case b[0] != 'm':
			return nil, c.broken(object, fmt.Errorf("a part that begins with %q", b[0]))
		case len(data) == 0 || len(all) > maxObject:
			return nil, c.broken(object, fmt.Errorf("it does not end: %d bytes, and the last part has %d", len(all), len(data)))
		}
	}
}

// Monitor gives a line to the stub's own monitor (qRcmd), and gives what that prints.
func (c *Client) Monitor(ctx context.Context, line string) (string, error) {
	request := "qRcmd," + hex.EncodeToString([]byte(line))
	var text bytes.Buffer
	var refusal error
	err := c.batch(ctx, 1, func(b []byte, _ int) []byte { return append(b, request...) }, func(_ int, b []byte) error {
		part := b
		final := len(b) == 0 || b[0] != 'O' || string(b) == "OK"
		if !final {
			part = b[1:]
		} else if refusal = refused(request, b); refusal != nil || string(b) == "OK" {
			return nil
		}
		data := make([]byte, len(part)/2)
		if !decodeHex(data, part) || text.Len()+len(data) > maxObject {
			refusal = c.broken("what the monitor prints", fmt.Errorf("%.20q", part))
			return refusal
		}
		text.Write(data)
		if !final {
			return errGoOn
		}
		return nil
	})
	if err == nil {
		err = refusal
	}
	return text.String(), err
}

// PhysicalMode says whether addresses are physical ones, in QEMU's stub: an error that Is
// errors.ErrUnsupported says that this is another one.
func (c *Client) PhysicalMode(ctx context.Context) (bool, error) {
	b, err := c.ask(ctx, "qqemu.PhyMemMode")
	if err != nil {
		return false, err
	}
	if len(b) != 1 || b[0] != '0' && b[0] != '1' {
		return false, fmt.Errorf("the mode of memory is %.20q: %w", b, errors.ErrUnsupported)
	}
	return b[0] == '1', nil
}

// SetPhysicalMode says what addresses are to be.
func (c *Client) SetPhysicalMode(ctx context.Context, physical bool) error {
	return c.okay(ctx, string(physicalMode(physical)))
}

func physicalMode(on bool) []byte {
	if on {
		return []byte("Qqemu.PhyMemMode:1")
	}
	return []byte("Qqemu.PhyMemMode:0")
}

// Detach lets the target run, and ends the stub's hold on it. The connection stays open.
func (c *Client) Detach(ctx context.Context) error {
	request := "D"
	if pid := c.stop.Thread.PID; pid > 0 {
		request = fmt.Sprintf("D;%x", pid)
	}
	return c.okay(ctx, request)
}

// SPDX-License-Identifier: Apache-2.0

package rsp_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/remora-go/remora/internal/rsp"
	"github.com/remora-go/remora/internal/rsp/rsptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dial opens a conversation with s.
func dial(t *testing.T, s *rsptest.Stub, o *rsp.Options) (*rsp.Client, error) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := rsp.New(t.Context(), conn, "the stub", o)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// opened is dial for a stub that must do.
func opened(t *testing.T, s *rsptest.Stub) *rsp.Client {
	t.Helper()
	c, err := dial(t, s, &rsp.Options{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// noise is memory that cannot be told apart from chance, but with runs in it.
func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := 0; i < n; {
		v, run := byte(r.Uint32()), 1
		if r.IntN(4) == 0 {
			run = r.IntN(300)
		}
		for ; run > 0 && i < n; run-- {
			b[i] = v
			i++
		}
	}
	return b
}

const base = 0xffffffff81000000

func TestMemory(t *testing.T) {
	for name, s := range map[string]*rsptest.Stub{
		"acks":        {},
		"no acks":     {NoAck: true},
		"runs":        {Runs: true},
		"binary":      {Binary: true, NoAck: true},
		"binary runs": {Binary: true, Runs: true},
		"no X":        {NoX: true},
		"strict":      {Strict: 100},
		"tiny":        {PacketSize: 64},
		"large":       {PacketSize: 128 << 10, NoAck: true},
		"endless":     {PacketSize: 1 << 30},
		"notified":    {Fault: func(int, string) rsptest.Fault { return rsptest.Noise }},
		"nak":         {Fault: every(11, rsptest.Nak)},
		"bad sums":    {Fault: every(11, rsptest.BadSum)},
	} {
		t.Run(name, func(t *testing.T) {
			s.Virtual = []rsptest.Area{{Start: base, Data: noise(100_000)}}
			c := opened(t, s)
			for _, pipelined := range []bool{false, true} {
				if pipelined {
					c.Pipeline()
				}
				got := make([]byte, 100_000)
				if n, err := c.Read(t.Context(), got, base); n != len(got) || err != nil || !bytes.Equal(got, s.Virtual[0].Data) {
					t.Fatalf("read %d, %v, or other bytes", n, err)
				}
				data := noise(10_001)
				data[0] = byte(len(name))
				if n, err := c.Write(t.Context(), data, base+77); n != len(data) || err != nil || !bytes.Equal(data, s.Virtual[0].Data[77:77+len(data)]) {
					t.Fatalf("wrote %d, %v, or other bytes", n, err)
				}
			}
			n, err := c.Read(t.Context(), make([]byte, 100), base+100_000-10)
			if _, no := errors.AsType[*rsp.Error](err); n != 0 || !no {
				t.Errorf("read across the end gave %d, %v", n, err)
			}
		})
	}
}

// every gives a fault for each packet whose number n divides, but for those that open.
func every(n int, f rsptest.Fault) func(int, string) rsptest.Fault {
	return func(i int, r string) rsptest.Fault {
		if i%n == 0 && !strings.HasPrefix(r, "Q") {
			return f
		}
		return rsptest.None
	}
}

// A stub that says what it should not is an end with a reason, and in bounded time.
func TestBadStubs(t *testing.T) {
	for name, f := range map[string]struct {
		fault rsptest.Fault
		says  string
		noAck bool
	}{
		"garbage":             {rsptest.Garbage, "HTTP/1.1", false},
		"drop":                {rsptest.Drop, "EOF", false},
		"silence":             {rsptest.Silent, "it is silent", false},
		"bad sum, no acks":    {rsptest.BadSum, "wrong checksum", true},
		"bad run":             {rsptest.BadRun, "a repetition with the count 0x3", false},
		"too long an answer":  {rsptest.TooLong, "digits where 16 bytes were asked for", false},
		"endless packet":      {rsptest.Endless, "more than 1 MiB", false},
		"repetitions":         {rsptest.RunBomb, "more than 1 MiB", false},
		"no digits":           {rsptest.NotHex, "no hexadecimal number", false},
		"what is no document": {rsptest.EmptyParts, "no hexadecimal number", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &rsptest.Stub{NoAck: f.noAck, Virtual: []rsptest.Area{{Start: base, Data: noise(64)}}}
			s.Fault = func(_ int, r string) rsptest.Fault {
				if r[0] == 'm' {
					return f.fault
				}
				return rsptest.None
			}
			c, err := dial(t, s, &rsp.Options{Timeout: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second one finds it ended
				_, err = c.Read(t.Context(), make([]byte, 16), base)
				if broken, ok := errors.AsType[*rsp.BrokenError](err); !ok || !strings.Contains(broken.Error(), f.says) {
					t.Fatalf("it says %v", err)
				}
			}
		})
	}
}

func TestBadGreetings(t *testing.T) {
	for name, f := range map[string]struct {
		stub *rsptest.Stub
		says string
	}{
		"garbage":      {&rsptest.Stub{Fault: every(1, rsptest.Garbage)}, "HTTP/1.1"},
		"silence":      {&rsptest.Stub{Fault: every(1, rsptest.Silent)}, "it is silent"},
		"drop":         {&rsptest.Stub{Fault: every(1, rsptest.Drop)}, "EOF"},
		"tiny packets": {&rsptest.Stub{PacketSize: 63}, "packets of \"3f\" bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := dial(t, f.stub, &rsp.Options{Timeout: 100 * time.Millisecond, Interrupt: true})
			if broken, ok := errors.AsType[*rsp.BrokenError](err); !ok || !strings.Contains(broken.Error(), f.says) {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// A context that ends leaves the conversation as it is: what comes late is passed over.
func TestContextEnds(t *testing.T) {
	s := &rsptest.Stub{Virtual: []rsptest.Area{{Start: base, Data: noise(100_000)}}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Fault = func(n int, r string) rsptest.Fault {
		if r[0] == 'm' && ctx.Err() == nil {
			cancel()
		}
		return rsptest.None
	}
	c := opened(t, s)
	c.Pipeline()
	got := make([]byte, 90_000)
	if _, err := c.Read(ctx, got, base); !errors.Is(err, context.Canceled) {
		t.Fatalf("it says %v", err)
	}
	if n, err := c.Read(t.Context(), got, base+100); n != len(got) || err != nil || !bytes.Equal(got, s.Virtual[0].Data[100:90_100]) {
		t.Fatalf("then it reads %d, %v, or other bytes", n, err)
	}
}

func TestQueries(t *testing.T) {
	long := strings.Repeat("a line of #$*} text\n", 1000)
	s := &rsptest.Stub{
		QEMU: true, Threads: "p1.1,p1.2,p1.a", Status: "VM status: paused\r\n",
		Files:   map[string]string{"/proc/1/maps": long},
		Objects: map[string]string{"auxv:": long},
	}
	c := opened(t, s)
	threads, err := c.Threads(t.Context())
	if diff := cmp.Diff([]rsp.Thread{{PID: 1, TID: 1}, {PID: 1, TID: 2}, {PID: 1, TID: 10}}, threads); diff != "" || err != nil {
		t.Errorf("threads: %v\n%s", err, diff)
	}
	if text, err := c.Monitor(t.Context(), "info status"); text != s.Status || err != nil {
		t.Errorf("the monitor says %q, %v", text, err)
	}
	if b, err := c.ReadFile(t.Context(), "/proc/1/maps"); string(b) != long || err != nil {
		t.Errorf("a file of %d bytes, %v", len(b), err)
	}
	if _, err := c.ReadFile(t.Context(), "/none"); err == nil || !strings.Contains(err.Error(), "/none: file does not exist") {
		t.Errorf("a file that is not there: %v", err)
	}
	if b, err := c.Object(t.Context(), "auxv", ""); string(b) != long || err != nil {
		t.Errorf("an object of %d bytes, %v", len(b), err)
	}
	if _, err := c.Object(t.Context(), "libraries", ""); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an object that is not offered: %v", err)
	}
	if on, err := c.PhysicalMode(t.Context()); on || err != nil {
		t.Errorf("the mode is %v, %v", on, err)
	}
	if err := errors.Join(c.SetPhysicalMode(t.Context(), true), c.Detach(t.Context())); err != nil || !s.IsPhysical() || s.Detached() != 1 {
		t.Errorf("%v: mode %v, detached %d", err, s.IsPhysical(), s.Detached())
	}
}

const targetXML = `<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">
<target><architecture>i386:x86-64</architecture><xi:include href="core.xml"/>
<feature name="system"><reg name="cr3" bitsize="64" regnum="90"/><reg name="cr4" bitsize="64"/></feature></target>`

const coreXML = `<feature name="core"><reg name="rax" bitsize="64" type="int64"/><reg name="eflags" bitsize="32" regnum="1"/>
<reg name="st0" bitsize="80"/><reg name="gone" bitsize="16"/></feature>`

func TestRegisters(t *testing.T) {
	s := &rsptest.Stub{
		Objects:   map[string]string{"features:target.xml": targetXML, "features:core.xml": coreXML},
		Registers: "0807060504030201" + "ff000000" + strings.Repeat("00", 10) + "xxxx",
		One:       map[string]string{"5a": "00f0ff0000000000", "5b": "E01"},
	}
	c := opened(t, s)
	f, err := c.Features(t.Context())
	if err != nil || f.Architecture != "i386:x86-64" {
		t.Fatal(f, err)
	}
	regs, err := c.Registers(t.Context(), f, rsp.Thread{TID: 1}, []string{"cr3", "cr4"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{"rax": 0x0102030405060708, "eflags": 0xff, "cr3": 0xfff000}
	if diff := cmp.Diff(want, regs); diff != "" {
		t.Error(diff)
	}
}

func TestBadDescriptions(t *testing.T) {
	for name, doc := range map[string]string{
		"loop":      `<target><xi:include href="target.xml"/></target>`,
		"bits":      `<target><feature><reg name="a" bitsize="99999999"/></feature></target>`,
		"number":    `<target><feature><reg name="a" bitsize="8" regnum="-4"/></feature></target>`,
		"registers": `<target><feature>` + strings.Repeat(`<reg name="a" bitsize="8"/>`, 10_000) + `</feature></target>`,
		"nothing":   `<html></html>`,
		"no xml":    "\x7fELF<<<",
	} {
		t.Run(name, func(t *testing.T) {
			c := opened(t, &rsptest.Stub{Objects: map[string]string{"features:target.xml": doc}})
			if f, err := c.Features(t.Context()); err == nil {
				t.Errorf("it is taken: %v", f)
			}
		})
	}
}

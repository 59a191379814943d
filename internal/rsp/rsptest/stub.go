// SPDX-License-Identifier: Apache-2.0

// Package rsptest is a gdb stub for tests, in the process of the test: it has memory,
// registers, documents and files as the test lays them out, and does wrong what the test
// asks for.
package rsptest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Fault is what a stub does with one packet instead of what it should.
type Fault uint8

// The faults.
const (
	None       Fault = iota
	Garbage          // says what is no packet, and goes on so
	Drop             // ends the connection in the middle of its answer
	Refuse           // answers E01
	Silent           // answers nothing, now and later
	BadSum           // answers once with a wrong checksum
	Nak              // wants the packet once more
	BadRun           // answers with a repetition whose count is none
	TooLong          // answers with more than was asked for
	Endless          // answers with a packet that does not end
	Noise            // says a notification and some other bytes before the answer
	NotHex           // answers with what are no digits
	RunBomb          // answers with repetitions that come to more than a packet may have
	EmptyParts       // answers that more comes, and gives nothing
	Nothing          // answers nothing, this once
)

// Area is memory of a stub.
type Area struct {
	Start uint64
	Data  []byte
}

// Stub is a gdb stub. What it is must not be changed once it listens, but for Fault.
type Stub struct {
	PacketSize int  // 0: 4096
	NoAck      bool // it offers QStartNoAckMode
	QEMU       bool // it has physical memory: reads of what is not there are zeros
	Binary     bool // it offers x
	NoX        bool // it does not know X
	Runs       bool // it compresses answers
	Strict     int  // bytes that a read may ask for, more is E22; 0: any
	Offers     string
	Virtual    []Area
	Physical   []Area
	Objects    map[string]string // "features:target.xml"
	Files      map[string]string
	Threads    string // "p1.1,p1.2"
	Registers  string // the answer to g
	One        map[string]string
	Status     string // what "info status" of the monitor prints
	Stopped    string // the answer to ?

	// Fault is asked for every packet, with its number and its payload.
	Fault func(n int, request string) Fault

	mu        sync.Mutex
	physical  bool
	detached  int
	continued int
	requests  int
	broken    bool // Silent
	said      []string
	opened    string // of Files
}

// Start has the stub listen until the test ends, and gives the address.
func (s *Stub) Start(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() { s.serve(c); c.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// Detached says how often a client detached.
func (s *Stub) Detached() int { s.mu.Lock(); defer s.mu.Unlock(); return s.detached }

// Continued says how often a client let the target run, and held on.
func (s *Stub) Continued() int { s.mu.Lock(); defer s.mu.Unlock(); return s.continued }

// IsPhysical says in which mode addresses are.
func (s *Stub) IsPhysical() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.physical }

// Said gives the packets that came, in order.
func (s *Stub) Said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.said...)
}

// Peek copies memory behind everyone's back.
func (s *Stub) Peek(p []byte, a uint64, physical bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	areas := s.Virtual
	if physical {
		areas = s.Physical
	}
	for i := range p {
		b := find(areas, a+uint64(i))
		if b == nil {
			return fmt.Errorf("nothing is at %#x", a+uint64(i))
		}
		p[i] = b[0]
	}
	return nil
}

// find gives the memory from a to the end of its area.
func find(areas []Area, a uint64) []byte {
	for _, r := range areas {
		if a-r.Start < uint64(len(r.Data)) {
			return r.Data[a-r.Start:]
		}
	}
	return nil
}

// serve speaks with one client.
func (s *Stub) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	acks := true
	var last []byte
	for {
		c, err := in.ReadByte()
		switch {
		case err != nil:
			return
		case c == '-' && last != nil:
			conn.Write(last)
			continue
		case c != '$':
			continue
		}
		payload, err := in.ReadBytes('#')
		if err != nil {
			return
		}
		payload = payload[:len(payload)-1]
		sum := make([]byte, 2)
		for i := range sum {
			sum[i], _ = in.ReadByte()
		}
		if fmt.Sprintf("%02x", total(payload)) != string(sum) {
			conn.Write([]byte{'-'})
			continue
		}
		fault := s.note(payload)
		if fault == Nak && acks {
			conn.Write([]byte{'-'})
			continue
		}
		if fault == Silent || fault == Nothing {
			continue
		}
		if acks {
			conn.Write([]byte{'+'})
		}
		request := string(payload)
		noAck := request == "QStartNoAckMode" && s.NoAck
		answer := s.answer(request)
		if noAck {
			answer = "OK"
		}
		last = s.frame(answer)
		if strings.HasPrefix(request, "qRcmd,") && answer != "" {
			last = append(last, s.frame("OK")...)
		}
		if !s.wrong(conn, fault, answer, last) {
			return
		}
		acks = acks && !noAck
	}
}

// note counts a packet, and says what is to go wrong with it.
func (s *Stub) note(payload []byte) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.said = append(s.said, string(payload[:min(len(payload), 60)]))
	if s.broken {
		return Silent
	}
	if s.Fault == nil {
		return None
	}
	f := s.Fault(s.requests, string(payload))
	s.broken = f == Silent
	return f
}

// wrong sends the answer, or what a fault makes of it; false ends the connection.
func (s *Stub) wrong(conn net.Conn, fault Fault, answer string, packet []byte) bool {
	send := func(b []byte) bool { _, err := conn.Write(b); return err == nil }
	switch fault {
	case Garbage:
		return send(bytes.Repeat([]byte("HTTP/1.1 400 Bad Request\r\n"), 400))
	case Drop:
		send(packet[:len(packet)/2])
		return false
	case Refuse:
		return send(s.frame("E01"))
	case BadSum:
		bad := bytes.Clone(packet)
		bad[len(bad)-1] ^= 1
		return send(bad)
	case BadRun:
		return send(s.frame("0*\x03"))
	case TooLong:
		return send(s.frame(answer + "0000"))
	case Endless:
		for send(bytes.Repeat([]byte{'$', 'a', 'a', 'a'}, 16<<10)) {
		}
		return false
	case Noise:
		return send(append([]byte("%Stop:T05#00zz\r\n"), packet...))
	case NotHex:
		return send(s.frame("zz"))
	case RunBomb:
		return send(s.frame("0" + strings.Repeat("*~", 20<<10)))
	case EmptyParts:
		return send(s.frame("m"))
	}
	return send(packet)
}

func total(b []byte) (sum byte) {
	for _, c := range b {
		sum += c
	}
	return sum
}

// frame makes a packet.
func (s *Stub) frame(payload string) []byte {
	b := []byte(payload)
	if s.Runs {
		b = compress(b)
	}
	return fmt.Appendf(nil, "$%s#%02x", b, total(b))
}

// compress writes runs of digits as a repetition.
func compress(b []byte) (out []byte) {
	for i := 0; i < len(b); {
		n := 1
		for i+n < len(b) && b[i+n] == b[i] && n < 90 {
			n++
		}
		out = append(out, b[i])
		count := byte(n - 1 + 29)
		for count == '#' || count == '$' || count == '+' || count == '-' {
			n, count = n-1, count-1
		}
		if n > 4 && n-1 >= 3 {
			out = append(out, '*', count)
		} else {
			n = 1
		}
		i += n
	}
	return out
}

// unescape takes the escapes out of binary data.
func unescape(b string) []byte {
	var out []byte
	for i := 0; i < len(b); i++ {
		if b[i] == '}' && i+1 < len(b) {
			i++
			out = append(out, b[i]^0x20)
			continue
		}
		out = append(out, b[i])
	}
	return out
}

func escape(b []byte) string {
	var out []byte
	for _, c := range b {
		if c == '#' || c == '$' || c == '}' || c == '*' {
			out = append(out, '}', c^0x20)
			continue
		}
		out = append(out, c)
	}
	return string(out)
}

// number reads hexadecimal digits.
func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 16, 64)
	return n
}

func digits(b []byte) string { return hex.EncodeToString(b) }

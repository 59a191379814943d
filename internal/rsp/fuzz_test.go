// SPDX-License-Identifier: Apache-2.0

package rsp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// fed is a connection from which what was fed comes, a few bytes at a time.
type fed struct {
	net.Conn
	r    io.Reader
	step int
}

func (f *fed) Read(p []byte) (int, error)       { return f.r.Read(p[:min(len(p), f.step)]) }
func (f *fed) Write(p []byte) (int, error)      { return len(p), nil }
func (f *fed) SetReadDeadline(time.Time) error  { return nil }
func (f *fed) SetWriteDeadline(time.Time) error { return nil }
func (f *fed) Close() error                     { return nil }

// FuzzPackets has the decoder take apart any bytes, in pieces of any size: it comes to the
// same packets, within its limits.
func FuzzPackets(f *testing.F) {
	for _, s := range []string{"+$OK#9a", "$0* #7a", "$a#00+$b#62", "%Stop:#00$m1,2#5c", "$$x#78", "$}\x03*~#00", "--$", "$#00", strings.Repeat("$0*~#c8", 9)} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		packets := func(step int) (all []string) {
			l := line{conn: &fed{r: bytes.NewReader(b), step: step}, timeout: time.Second}
			for len(all) <= len(b) {
				m, p, err := l.next(context.Background())
				if err != nil {
					if errors.Is(err, errMore) {
						t.Fatal("it asks for more, and reads none")
					}
					return all
				}
				if len(p) > maxPayload {
					t.Fatalf("a payload of %d bytes", len(p))
				}
				all = append(all, string(rune('0'+m))+string(p))
			}
			t.Fatal("more packets than bytes")
			return nil
		}
		one, other := packets(len(b)+1), packets(int(step)+1)
		if strings.Join(one, "\n") != strings.Join(other, "\n") {
			t.Fatalf("%q in one piece, %q in pieces of %d", one, other, step+1)
		}
	})
}

// FuzzEscapes holds unescape against its inverse.
func FuzzEscapes(f *testing.F) {
	f.Add([]byte("a}*#$b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		back, err := unescape(appendEscaped(nil, b))
		if err != nil || !bytes.Equal(back, b) {
			t.Fatalf("%q comes back as %q, %v", b, back, err)
		}
		if out, err := unescape(bytes.Clone(b)); err == nil && len(out) > len(b) {
			t.Fatalf("%d bytes of %d", len(out), len(b))
		}
	})
}

// FuzzFeatures reads any description, with one document in it.
func FuzzFeatures(f *testing.F) {
	f.Add(`<target><architecture>aarch64</architecture><xi:include href="a"/></target>`, `<feature><reg name="x0" bitsize="64" regnum="0x4"/></feature>`)
	f.Add(`<target><reg name="a" bitsize="8" regnum="7"/><reg name="b" bitsize="16" regnum="2"/></target>`, ``)
	f.Fuzz(func(t *testing.T, doc, other string) {
		d, err := parseFeatures(func(annex string) ([]byte, error) {
			if annex == "target.xml" {
				return []byte(doc), nil
			}
			return []byte(other), nil
		})
		if err != nil {
			return
		}
		for _, r := range d.Registers {
			if r.at < 0 || r.Bits <= 0 || r.at+r.Bits/8 > maxRegisters*maxRegister/8 {
				t.Fatalf("register %+v", r)
			}
		}
	})
}

// FuzzAnswers reads any answers of a stub as what they may be taken for.
func FuzzAnswers(f *testing.F) {
	for _, s := range []string{"T05thread:p01.01;", "p-1.-1", "W00", "E.text", "PacketSize=1000;a+;b-", "F-1,2", "ffffffffffffffff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parseStop(s)
		parseOffers(s)
		if th, ok := parseThread(s); ok {
			if again, ok := parseThread(th.String()); !ok || again != th {
				t.Fatalf("%q is %+v, and %q is %+v", s, th, th.String(), again)
			}
		}
		p := make([]byte, 16)
		for _, binary := range []bool{false, true} {
			if n, err := readAnswer(p, []byte(s), binary); n < 0 || n > len(p) || err == nil && n > len(s) {
				t.Fatalf("%q gives %d, %v", s, n, err)
			}
		}
	})
}

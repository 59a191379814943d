// SPDX-License-Identifier: Apache-2.0

package rsptest

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// answer gives what a stub says to a request; "" where it does not know it.
func (s *Stub) answer(r string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, rest, _ := strings.Cut(r, ":")
	switch {
	case name == "qSupported":
		return s.offer()
	case r == "?":
		if s.Stopped != "" {
			return s.Stopped
		}
		return "T05thread:p01.01;"
	case r == "qqemu.PhyMemMode" && s.QEMU:
		return map[bool]string{false: "0", true: "1"}[s.physical]
	case name == "Qqemu.PhyMemMode" && s.QEMU:
		s.physical = rest == "1"
		return "OK"
	case r == "qfThreadInfo" && s.Threads != "":
		return "m" + s.Threads
	case r == "qsThreadInfo":
		return "l"
	case strings.HasPrefix(r, "Hg"):
		return "OK"
	case r == "g":
		return s.Registers
	case name == "qXfer":
		return s.object(rest)
	case strings.HasPrefix(r, "qRcmd,") && s.Status != "":
		return "O" + digits([]byte(s.Status))
	case name == "vFile" && s.Files != nil:
		return s.file(rest)
	case r[0:min(1, len(r))] == "D":
		s.detached++
		return "OK"
	case r == "c":
		s.continued++
		return ""
	case r == "":
		return ""
	}
	switch r[0] {
	case 'm', 'x':
		return s.read(r)
	case 'M', 'X':
		return s.write(r)
	case 'p':
		return s.One[r[1:]]
	}
	return ""
}

func (s *Stub) size() int {
	if s.PacketSize == 0 {
		return 4096
	}
	return s.PacketSize
}

func (s *Stub) offer() string {
	all := fmt.Sprintf("PacketSize=%x;multiprocess+", s.size())
	seen := map[string]bool{}
	for key := range s.Objects {
		name, _, _ := strings.Cut(key, ":")
		if !seen[name] {
			seen[name] = true
			all += ";qXfer:" + name + ":read+"
		}
	}
	if s.NoAck {
		all += ";QStartNoAckMode+"
	}
	if s.Binary {
		all += ";binary-upload+"
	}
	if s.Offers != "" {
		all += ";" + s.Offers
	}
	return all
}

// areas are those that addresses mean now.
func (s *Stub) areas() []Area {
	if s.physical {
		return s.Physical
	}
	return s.Virtual
}

func (s *Stub) read(r string) string {
	if r[0] == 'x' && !s.Binary {
		return ""
	}
	at, size, _ := strings.Cut(r[1:], ",")
	a, n := number(at), number(size)
	if s.Strict > 0 && n > uint64(s.Strict) || n > 1<<20 {
		return "E22"
	}
	b := make([]byte, n)
	for i := uint64(0); i < n; {
		m := find(s.areas(), a+i)
		if m == nil {
			if !s.physical {
				return "E14"
			}
			i++
			continue
		}
		i += uint64(copy(b[i:], m))
	}
	if r[0] == 'x' {
		return "b" + escape(b)
	}
	return digits(b)
}

func (s *Stub) write(r string) string {
	if r[0] == 'X' && s.NoX {
		return ""
	}
	head, text, _ := strings.Cut(r[1:], ":")
	at, _, _ := strings.Cut(head, ",")
	b, _ := hex.DecodeString(text)
	if r[0] == 'X' {
		b = unescape(text)
	}
	if len(r) > s.size() {
		return "E22"
	}
	for i := 0; i < len(b); {
		m := find(s.areas(), number(at)+uint64(i))
		if m == nil {
			if !s.physical {
				return "E14"
			}
			i++
			continue
		}
		i += copy(m, b[i:])
	}
	return "OK"
}

// object gives a part of a document.
func (s *Stub) object(r string) string {
	f := strings.Split(r, ":")
	if len(f) != 4 {
		return "E00"
	}
	text, ok := s.Objects[f[0]+":"+f[2]]
	if !ok {
		return "E00"
	}
	at, size, _ := strings.Cut(f[3], ",")
	off, n := min(number(at), uint64(len(text))), number(size)
	if part := text[off:]; uint64(len(part)) > n/2 {
		return "m" + escape([]byte(part[:n/2]))
	}
	return "l" + escape([]byte(text[off:]))
}

// file does one operation on a file. The descriptor is always 7.
func (s *Stub) file(r string) string {
	op, rest, _ := strings.Cut(r, ":")
	switch op {
	case "setfs", "close":
		return "F0"
	case "open":
		name, _, _ := strings.Cut(rest, ",")
		b, _ := hex.DecodeString(name)
		if s.opened = string(b); s.Files[s.opened] == "" {
			return "F-1,2"
		}
		return "F7"
	case "pread":
		f := strings.Split(rest, ",")
		text := s.Files[s.opened]
		off := min(number(f[2]), uint64(len(text)))
		part := text[off:]
		part = part[:min(uint64(len(part)), number(f[1]), uint64(s.size()/2-10))]
		return fmt.Sprintf("F%x;%s", len(part), escape([]byte(part)))
	}
	return ""
}

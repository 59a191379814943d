// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
)

// MaxVMCoreInfo is the longest text that is read, in bytes. Kernels write one page.
const MaxVMCoreInfo = 1 << 20

// VMCoreInfo is what a kernel says of itself in lines KEY=VALUE (vmcoreinfo_append_str
// in the kernel's kernel/vmcore_info.c). The text may be cut off: a kernel has one page
// for it.
//
// How a number is written depends on the key, and here on nothing else:
//
//	SYMBOL(x), KERNELOFFSET                  hexadecimal, without 0x
//	OFFSET(s.f), SIZE(s), LENGTH(a),
//	PAGESIZE, CRASHTIME                      decimal
//	NUMBER(x)                                decimal with a sign, or hexadecimal with 0x
//
// Where a key is there twice, the first one counts.
type VMCoreInfo struct {
	Lines    []Line // in the order of the text, all of them
	Problems []error

	first map[string]string
}

// Line is one line.
type Line struct{ Key, Value string }

// ParseVMCoreInfo reads the text. What is no line of it is among the Problems.
func ParseVMCoreInfo(text []byte) *VMCoreInfo {
	v := &VMCoreInfo{first: map[string]string{}}
	if len(text) > MaxVMCoreInfo {
		v.problem(MaxVMCoreInfo, fmt.Sprintf("at most %d bytes", MaxVMCoreInfo), strconv.Itoa(len(text)))
		text = text[:MaxVMCoreInfo]
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	off := 0
	for line := range bytes.Lines(text) {
		at := off
		off += len(line)
		s := strings.TrimRight(string(line), "\r\n")
		if s == "" {
			continue
		}
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			v.problem(at, "KEY=VALUE", strconv.Quote(shorten(s)))
			continue
		}
		v.Lines = append(v.Lines, Line{key, value})
		if _, twice := v.first[key]; twice {
			continue
		}
		v.first[key] = value
		if _, ok := v.Value(key); !ok && classOf(key) != classText {
			v.problem(at, "a number", strconv.Quote(shorten(s)))
		}
	}
	return v
}

// Bytes gives the lines as a text again.
func (v *VMCoreInfo) Bytes() []byte {
	var b []byte
	for _, l := range v.Lines {
		b = append(b, l.Key+"="+l.Value+"\n"...)
	}
	return b
}

func (v *VMCoreInfo) problem(off int, want, got string) {
	const most = 100
	if len(v.Problems) < most {
		v.Problems = append(v.Problems, &remora.FormatError{File: "VMCOREINFO", Offset: int64(off), Want: want, Got: got, Err: remora.ErrCorrupt})
	}
}

// shorten keeps a message short.
func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// class is how the value of a key is written.
type class uint8

const (
	classText class = iota
	classHex
	classDecimal
	classNumber
)

func classOf(key string) class {
	name, _, call := strings.Cut(key, "(")
	switch {
	case key == "KERNELOFFSET", call && name == "SYMBOL":
		return classHex
	case key == "PAGESIZE", key == "CRASHTIME", call && (name == "OFFSET" || name == "SIZE" || name == "LENGTH"):
		return classDecimal
	case call && name == "NUMBER":
		return classNumber
	}
	return classText
}

// Text gives the value of a key as it is written.
func (v *VMCoreInfo) Text(key string) (string, bool) {
	if v == nil {
		return "", false
	}
	s, ok := v.first[key]
	return s, ok
}

// Value gives the number that a key has. A negative one is its two's complement. ok is
// false when there is no such key, or its value is no number of its class.
func (v *VMCoreInfo) Value(key string) (n uint64, ok bool) {
	s, ok := v.Text(key)
	if !ok {
		return 0, false
	}
	s = strings.TrimSpace(s)
	var err error
	switch classOf(key) {
	case classHex:
		n, err = strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 64)
	case classDecimal:
		n, err = strconv.ParseUint(s, 10, 64)
	case classNumber:
		n, err = parseSigned(s)
	default:
		return 0, false
	}
	if err != nil {
		return 0, false
	}
	return n, true
}

// parseSigned reads a decimal number with a sign, or a hexadecimal one with 0x.
func parseSigned(s string) (uint64, error) {
	if hex, ok := strings.CutPrefix(s, "0x"); ok {
		return strconv.ParseUint(hex, 16, 64)
	}
	if strings.HasPrefix(s, "-") {
		n, err := strconv.ParseInt(s, 10, 64)
		return uint64(n), err
	}
	return strconv.ParseUint(s, 10, 64)
}

// Symbol gives SYMBOL(name): an address, or for some names a value of the kernel.
func (v *VMCoreInfo) Symbol(name string) (remora.Addr, bool) {
	n, ok := v.Value("SYMBOL(" + name + ")")
	return remora.Addr(n), ok
}

// Number gives NUMBER(name).
func (v *VMCoreInfo) Number(name string) (uint64, bool) { return v.Value("NUMBER(" + name + ")") }

// Release gives OSRELEASE, "" when it is not there.
func (v *VMCoreInfo) Release() string {
	s, _ := v.Text("OSRELEASE")
	return s
}

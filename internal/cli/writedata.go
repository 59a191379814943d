// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
)

// mostData is how much is written at once: it is held three times, and twice more in
// an undo file.
const mostData = 64 << 20

// encoder makes bytes of what a user wrote.
type encoder struct {
	opts *writeOptions
	info remora.Info
	addr func(text string) (remora.Addr, error)
}

// data gives the bytes that the arguments behind ADDR, --file or standard input stand for.
func (e *encoder) data(args []string, stdin io.Reader) ([]byte, error) {
	switch {
	case e.opts.file != "":
		f, err := os.Open(e.opts.file)
		if err != nil {
			return nil, fileTrouble("read", err)
		}
		defer f.Close()
		return e.stream(f)
	case len(args) == 1 && args[0] == "-":
		return e.stream(stdin)
	case e.opts.str && len(args) > 1:
		return nil, usagef("too many arguments at %q; quote text with blanks in it", args[1])
	case e.opts.str:
		return []byte(args[0]), nil
	}
	return e.words(args)
}

// stream reads data as it is, or in the form that is named.
func (e *encoder) stream(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, mostData+1))
	switch {
	case err != nil:
		return nil, fileTrouble("read", err)
	case len(text) > mostData:
		return nil, usagef("more than %d MiB of data; write them in parts", mostData>>20)
	case e.opts.hex:
		return e.words(strings.Fields(string(text)))
	case e.opts.as.kind == nil:
		return text, nil
	case e.opts.as.kind.width < 0:
		return e.words([]string{string(text)})
	}
	return e.words(strings.Fields(string(text)))
}

// expected gives the bytes of --expect.
func (e *encoder) expected(text string) ([]byte, error) {
	switch k := e.opts.as.kind; {
	case e.opts.str:
		return []byte(text), nil
	case k != nil && k.width < 0:
		return e.words([]string{text})
	}
	return e.words(strings.Fields(text))
}

// words reads values, or else hexadecimal digits.
func (e *encoder) words(words []string) ([]byte, error) {
	if e.opts.as.kind == nil {
		digits := strings.Join(strings.Fields(strings.Join(words, " ")), "")
		data, err := hex.DecodeString(digits)
		if err != nil {
			return nil, usagef("%.40q is not hexadecimal digits, two for each byte", digits)
		}
		return data, nil
	}
	var data []byte
	for _, w := range words {
		b, err := e.value(w)
		if err != nil {
			return nil, err
		}
		data = append(data, b...)
	}
	return data, nil
}

// value gives the bytes of one value.
func (e *encoder) value(text string) ([]byte, error) {
	k := e.opts.as.kind
	if k.width < 0 {
		return append([]byte(text), 0), nil
	}
	width := k.bytes(e.info)
	if width == 0 {
		return nil, fmt.Errorf("%s: the size of a pointer is not known", e.info.Name)
	}
	raw, err := e.number(text, uint(8*width))
	if err != nil {
		return nil, err
	}
	var w [8]byte
	if e.info.BigEndian {
		binary.BigEndian.PutUint64(w[:], raw)
		return w[8-width:], nil
	}
	binary.LittleEndian.PutUint64(w[:], raw)
	return w[:width], nil
}

// number reads a number of so many bits.
func (e *encoder) number(text string, bits uint) (raw uint64, err error) {
	digits, negative := text, false
	switch name := e.opts.as.kind.name; {
	case name[0] == 'f':
		v, err := strconv.ParseFloat(text, int(bits))
		if err != nil {
			return 0, usagef("%q is not a %s", text, name)
		}
		if bits == 32 {
			return uint64(math.Float32bits(float32(v))), nil
		}
		return math.Float64bits(v), nil
	case name == "ptr":
		a, err := e.addr(text)
		if err != nil {
			return 0, err
		}
		raw = uint64(a)
	default:
		if name[0] == 'i' {
			digits, negative = strings.CutPrefix(text, "-")
		}
		if raw, err = parseNumber(digits); err != nil {
			return 0, err
		}
	}
	largest := ^uint64(0) >> (64 - bits)
	if e.opts.as.kind.name[0] == 'i' {
		largest >>= 1
	}
	if negative {
		if raw > largest+1 {
			return 0, usagef("%q is too small for %s", text, e.opts.as.kind.name)
		}
		return -raw, nil
	}
	if raw > largest {
		return 0, usagef("%q is too large for %s", text, e.opts.as.kind.name)
	}
	return raw, nil
}

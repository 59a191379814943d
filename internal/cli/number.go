// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// parseNumber reads an unsigned number: decimal, 0x or 0o, and then K, M, G or T for a
// power of 1024.
func parseNumber(s string) (uint64, error) {
	digits, shift := s, 0
	if n := len(s); n > 0 {
		if i := strings.IndexByte("KMGT", s[n-1]); i >= 0 {
			digits, shift = s[:n-1], 10*(i+1)
		}
	}
	base := 10
	for prefix, b := range map[string]int{"0x": 16, "0X": 16, "0o": 8, "0O": 8} {
		if rest, ok := strings.CutPrefix(digits, prefix); ok {
			digits, base = rest, b
		}
	}
	v, err := strconv.ParseUint(digits, base, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && bits.Len64(v)+shift > 64:
		return 0, usagef("%q is too large for 64 bits", s)
	case err != nil && isHex(s):
		return 0, usagef("%q is not a number; is 0x%s meant?", s, s)
	case err != nil:
		return 0, usagef("%q is not a number; write decimal, 0x or 0o, and K, M, G or T behind it", s)
	}
	return v << shift, nil
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// sizeFlag is a flag that holds a number of bytes, or of something else.
type sizeFlag struct {
	n   uint64
	set bool
}

// or gives the number, or def when the flag is not there.
func (f *sizeFlag) or(def uint64) uint64 {
	if f.set {
		return f.n
	}
	return def
}

func (f *sizeFlag) Type() string { return "size" }
func (f *sizeFlag) String() string {
	if !f.set {
		return ""
	}
	return fmt.Sprint(f.n)
}
func (f *sizeFlag) Set(s string) (err error) {
	f.n, err = parseNumber(s)
	f.set = err == nil
	return err
}

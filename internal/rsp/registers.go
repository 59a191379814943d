// SPDX-License-Identifier: Apache-2.0

package rsp

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// byNumber gives the places of registers in the order of their numbers.
func byNumber(all []Register) []int {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(all[a].Number, all[b].Number) })
	return order
}

// BigEndian says whether the architecture's numbers are, where its name tells.
func (f *Features) BigEndian() bool {
	for _, s := range []string{"powerpc", "s390", "sparc", "m68k", "mips:"} {
		if strings.HasPrefix(f.Architecture, s) {
			return true
		}
	}
	return false
}

// Registers reads those of thread t that have at most 8 bytes, by name: the general ones
// at once, and of the others, which stubs keep apart, those in also. What the stub does not
// know is left out. The thread stays selected.
func (c *Client) Registers(ctx context.Context, f *Features, t Thread, also []string) (map[string]uint64, error) {
	if err := c.Select(ctx, t); err != nil {
		return nil, err
	}
	text, err := c.ask(ctx, "g")
	if err != nil {
		return nil, err
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if f.BigEndian() {
		order = binary.BigEndian
	}
	all := map[string]uint64{}
	for _, r := range f.Registers {
		n := r.Bits / 8
		if r.at+n <= len(text)/2 {
			if v, ok := value(text[2*r.at:2*(r.at+n)], order); ok {
				all[r.Name] = v
			}
		} else if slices.Contains(also, r.Name) {
			b, err := c.ask(ctx, fmt.Sprintf("p%x", r.Number))
			if _, no := errors.AsType[*Error](err); no || errors.Is(err, errors.ErrUnsupported) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if v, ok := value(b, order); ok && len(b) == 2*n {
				all[r.Name] = v
			}
		}
	}
	return all, nil
}

// value decodes a register. What the stub does not know is written as "xx".
func value(text []byte, order binary.ByteOrder) (uint64, bool) {
	var b [8]byte
	n := len(text) / 2
	if n == 0 || n > 8 || !decodeHex(b[:n], text) {
		return 0, false
	}
	if order == binary.BigEndian {
		copy(b[8-n:], b[:n])
		clear(b[:8-n])
	}
	return order.Uint64(b[:]), true
}

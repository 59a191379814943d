// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
)

// Explain says what the core tells about a, which a read stopped at: the region,
// where its bytes are or would be in the file, and why they are not there.
func (c *Core) Explain(_ context.Context, _ remora.Op, a remora.Addr, cause error) error {
	if !errors.Is(cause, remora.ErrFault) {
		return cause
	}
	r := c.regionAt(a)
	if r == nil {
		if c.gap == remora.ErrUnmapped || errors.Is(cause, remora.ErrUnmapped) {
			return cause
		}
		return fmt.Errorf("%w: not in this core, and %v lists not all that it leaves out", cause, c.maker)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "in %v", r.Range)
	if r.prog != nil {
		b.WriteString(" " + r.Perm.String())
	}
	if r.Name != "" {
		b.WriteString(" " + strconv.Quote(r.Name))
		if r.file != nil {
			fmt.Fprintf(&b, " at 0x%x", r.Offset+uint64(a-r.Start))
		}
	}
	switch {
	case errors.Is(cause, remora.ErrTruncated) && r.prog != nil:
		fmt.Fprintf(&b, ": would be at 0x%x of the core, which ends at 0x%x", r.prog.Off+uint64(a)-r.prog.Vaddr, c.file.Size)
	case errors.Is(cause, remora.ErrIO):
		b.WriteString(c.again(a))
	case errors.Is(cause, remora.ErrNotSaved):
		b.WriteString(": " + c.notSaved(r))
	}
	return fmt.Errorf("%w: %s", cause, b.String())
}

// notSaved says what the core holds of r, and why no file stands in for the rest.
func (c *Core) notSaved(r *region) string {
	text := "the core names it and holds nothing of it"
	if r.prog != nil {
		text = fmt.Sprintf("the core holds 0x%x of 0x%x bytes", r.prog.Filesz, r.prog.Memsz)
	}
	if r.file == nil || c.backs == nil {
		return text
	}
	b := c.backs[r.file.name]
	reason := b.reason
	if reason == "" {
		reason = b.refuses(r)
	}
	if reason == "" {
		reason = "it is past the end of " + b.path
	}
	return text + "; no file stands in: " + reason
}

// again reads the byte at a once more, for what reading says.
func (c *Core) again(a remora.Addr) string {
	if !c.gate.Enter() {
		return ""
	}
	defer c.gate.Leave()
	i := find(c.table, a)
	if i < 0 || c.table[i].src == nil {
		return ""
	}
	e := &c.table[i]
	off := e.off + int64(a-e.first)
	if n, err := e.src.ReadAt(make([]byte, 1), off); n == 0 && err != nil {
		return fmt.Sprintf(": at 0x%x of the file: %v", off, err)
	}
	return fmt.Sprintf(": at 0x%x of the file; a second look succeeded", off)
}

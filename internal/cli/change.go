// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/remora-go/remora"
)

// change is the Result of write.
type change struct {
	Target   string `json:"target"`
	Address  string `json:"address"`
	Size     int    `json:"size"`    // how many bytes were to be written
	Written  int    `json:"written"` // how many were, or would be
	Changed  int    `json:"changed"` // how many of them were different before
	Old      string `json:"old"`     // what was there before; shorter than new where it could not be read
	New      string `json:"new"`     // what was written
	Verified bool   `json:"verified"`
	DryRun   bool   `json:"dry_run"`
	Forced   bool   `json:"forced"`
	Undo     string `json:"undo,omitempty"`

	addr      remora.Addr
	old, data []byte
	kind      *kind
	info      remora.Info
	all       bool // print every line
}

// count notes that n bytes were written.
func (c *change) count(n int) {
	c.Written = n
	c.old, c.data = c.old[:min(n, len(c.old))], c.data[:n]
	for i, b := range c.data {
		if i >= len(c.old) || c.old[i] != b {
			c.Changed++
		}
	}
	c.Old, c.New = hex.EncodeToString(c.old), hex.EncodeToString(c.data)
}

// changeLines is how many lines are printed unless all are asked for.
const changeLines = 64

// Text prints what has changed, old -> new, and a line about the whole.
func (c *change) Text(w io.Writer) error {
	width, row := 8, c.bytesRow
	if c.kind != nil && c.kind.width >= 0 {
		width, row = int(c.kind.bytes(c.info)), c.valueRow
	}
	printed, more := 0, 0
	for at := 0; at < len(c.data); at += width {
		end := min(at+width, len(c.data))
		switch {
		case c.same(at, end):
		case printed == changeLines && !c.all:
			more++
		default:
			printed++
			if _, err := io.WriteString(w, row(at, end)+"\n"); err != nil {
				return err
			}
		}
	}
	if more > 0 {
		if _, err := fmt.Fprintf(w, "... and %d lines like these; -v prints them\n", more); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, c.summary()+"\n")
	return err
}

func (c *change) same(at, end int) bool {
	return end <= len(c.old) && string(c.old[at:end]) == string(c.data[at:end])
}

func (c *change) valueRow(at, end int) string {
	now := "??"
	if end-at < int(c.kind.bytes(c.info)) { // only a part of it was written
		return c.bytesRow(at, end)
	}
	if end <= len(c.old) {
		now = c.kind.show(word(c.old[at:end], c.info.BigEndian))
	}
	return fmt.Sprintf("%v  %s -> %s", c.addr+remora.Addr(at), now, c.kind.show(word(c.data[at:end], c.info.BigEndian)))
}

// bytesRow is an address, the old bytes, the new ones, and both as characters.
func (c *change) bytesRow(at, end int) string {
	var was, is, wasText, isText strings.Builder
	for i := at; i < end; i++ {
		if i < len(c.old) {
			fmt.Fprintf(&was, "%02x ", c.old[i])
			wasText.WriteByte(printable(c.old[i]))
		} else {
			was.WriteString("?? ")
			wasText.WriteByte(' ')
		}
		fmt.Fprintf(&is, "%02x ", c.data[i])
		isText.WriteByte(printable(c.data[i]))
	}
	out := appendAddr(nil, c.addr+remora.Addr(at))
	return string(fmt.Appendf(out, "  %-24s-> %-25s|%s| -> |%s|", was.String(), is.String(), wasText.String(), isText.String()))
}

func printable(b byte) byte {
	if b < 0x20 || b >= 0x7f {
		return '.'
	}
	return b
}

func (c *change) summary() string {
	if c.DryRun {
		return fmt.Sprintf("%s would be written at %s, %d of them changed; nothing was written", count(c.Written, "byte"), c.Address, c.Changed)
	}
	amount := count(c.Written, "byte")
	if c.Written < c.Size {
		amount = fmt.Sprintf("%d of %s", c.Written, count(c.Size, "byte"))
	}
	text := fmt.Sprintf("%s written at %s, %d of them changed", amount, c.Address, c.Changed)
	if c.Verified {
		text += "; read back: equal"
	}
	if c.Undo != "" {
		text += "; the old bytes are in " + harmless(c.Undo)
	}
	return text
}

// count gives "1 byte", "2 bytes".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

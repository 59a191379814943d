// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/remora-go/remora"
)

// Describe says what the core is, what the process was, and what is missing.
func (c *Core) Describe(ctx context.Context) ([]remora.Fact, error) {
	var facts []remora.Fact
	add := func(key, value string) {
		if value != "" {
			facts = append(facts, remora.Fact{Key: key, Value: value})
		}
	}
	class, order := "ELF32", "little-endian"
	if c.file.Wide() {
		class = "ELF64"
	}
	if c.file.BigEndian {
		order = "big-endian"
	}
	add("kind", "core of a user process")
	add("file", c.file.Name)
	add("format", class+", "+order)
	add("arch", c.arch())
	add("made by", c.madeBy())
	p := &c.process
	if p.PID != 0 {
		add("pid", strconv.FormatInt(p.PID, 10))
	}
	add("command", p.Command)
	add("arguments", p.Args)
	if p.Command != "" {
		add("user", fmt.Sprintf("uid %d, gid %d", p.UID, p.GID))
	}
	add("threads", strconv.Itoa(c.threads))
	add("signal", c.signal())
	c.memoryFacts(add)
	for _, err := range c.problems {
		add("problem", err.Error())
	}
	return facts, ctx.Err()
}

func (c *Core) madeBy() string {
	by := c.maker.String()
	if c.maker == Delve {
		return by + " " + c.delve.version + " on " + c.delve.platform
	}
	return by + " (by its form)"
}

// signal says what stopped the process, by NT_SIGINFO or else the first thread.
func (c *Core) signal() string {
	s := c.process.Signal
	if s.Number == 0 {
		return ""
	}
	text := c.signalName(s.Number) + ", code " + strconv.Itoa(int(s.Code))
	if s.Addr != 0 {
		text += ", address " + s.Addr.String()
	}
	return text
}

// memoryFacts sums up what is there and what is missing.
func (c *Core) memoryFacts(add func(key, value string)) {
	var saved, fromFiles, left, lost uint64
	for i := range c.table {
		e := &c.table[i]
		switch size := uint64(e.last-e.first) + 1; {
		case e.src != nil && e.cause == remora.ErrBeyondEOF:
			fromFiles += size
		case e.src != nil:
			saved += size
		case e.cause == remora.ErrTruncated:
			lost += size
		default:
			left += size
		}
	}
	add("regions", strconv.Itoa(len(c.regions)))
	add("saved", fmt.Sprintf("%d bytes", saved))
	if fromFiles > 0 {
		add("from files", fmt.Sprintf("%d bytes", fromFiles))
	}
	if left > 0 {
		add("not saved", fmt.Sprintf("%d bytes", left))
	}
	if lost > 0 {
		add("cut off", fmt.Sprintf("%d bytes", lost))
	}
	if c.gap != remora.ErrUnmapped {
		add("limits", "mappings that were left out need not be listed, so what is not here may have been mapped")
	}
	names := make([]string, 0, len(c.backs))
	for name := range c.backs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if b := c.backs[name]; b.reason != "" {
			add("file not used", b.reason)
		}
	}
}

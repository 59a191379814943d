// SPDX-License-Identifier: Apache-2.0

package memfault

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/remora-go/remora"
)

// ops says which directions a rule is about.
type ops uint8

const (
	reads ops = 1 << iota
	writes
)

func (o ops) has(op remora.Op) bool {
	if op&remora.Write != 0 {
		return o&writes != 0
	}
	return o&reads != 0
}

// place is a rule for addresses, the last one included.
type place struct {
	ops         ops
	first, last remora.Addr
	cause       remora.Cause
	text        string
}

// turn is a rule for each n-th segment.
type turn struct {
	ops   ops
	n     uint64
	half  bool // of the segment is moved; otherwise nothing
	cause remora.Cause
	count atomic.Uint64
}

// rules is what a text says.
type rules struct {
	places []place
	turns  []*turn
	delay  time.Duration
	mortal bool   // the target is gone after so many calls:
	life   uint64 //
}

func causes() map[string]remora.Cause {
	return map[string]remora.Cause{
		"fault":       remora.ErrFault,
		"unmapped":    remora.ErrUnmapped,
		"protected":   remora.ErrProtected,
		"beyond-eof":  remora.ErrBeyondEOF,
		"guard":       remora.ErrGuard,
		"not-present": remora.ErrNotPresent,
		"not-saved":   remora.ErrNotSaved,
		"hole":        remora.ErrHole,
		"truncated":   remora.ErrTruncated,
		"corrupt":     remora.ErrCorrupt,
		"poisoned":    remora.ErrPoisoned,
		"io":          remora.ErrIO,
		"device":      remora.ErrDevice,
		"no-table":    remora.ErrNoTable,
		"gone":        remora.ErrGone,
		"busy":        remora.ErrBusy,
	}
}

// parse reads the rules. Its errors name the line, from 1, and what was expected.
func parse(text string) (*rules, error) {
	r := &rules{}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		for rule := range strings.SplitSeq(line, ";") {
			words := strings.Fields(rule)
			if len(words) == 0 {
				continue
			}
			if err := r.add(words); err != nil {
				return nil, fmt.Errorf("memfault: line %d: %q: %w", i+1, strings.Join(words, " "), err)
			}
		}
	}
	return r, nil
}

// words are what is left of a rule.
type words []string

// next takes a word, and gives "" when there is none.
func (w *words) next() string {
	if len(*w) == 0 {
		return ""
	}
	word := (*w)[0]
	*w = (*w)[1:]
	return word
}

func wanted(what, found string) error {
	if found == "" {
		return fmt.Errorf("want %s, found the end of the rule", what)
	}
	return fmt.Errorf("want %s, found %q", what, found)
}

func (r *rules) add(w words) error {
	var err error
	text := strings.Join(w, " ")
	switch first := w.next(); first {
	case "read", "write", "any":
		err = r.addPlace(direction(first), text, &w)
	case "every":
		err = r.addTurn(&w)
	case "delay":
		word := w.next()
		d, bad := time.ParseDuration(word)
		if bad != nil || d < 0 {
			return wanted("a duration, as 5ms", word)
		}
		r.delay += d
	case "gone":
		if word := w.next(); word != "after" {
			return wanted(`"after" and a number of calls`, word)
		}
		word := w.next()
		n, bad := strconv.ParseUint(word, 0, 63)
		if bad != nil {
			return wanted("a number of calls", word)
		}
		if !r.mortal || n < r.life {
			r.mortal, r.life = true, n
		}
	default:
		return wanted(`"read", "write", "any", "every", "delay" or "gone"`, first)
	}
	if err == nil && len(w) > 0 {
		return wanted("the end of the rule", w.next())
	}
	return err
}

// direction gives the ops of a word, 0 if it names none.
func direction(word string) ops {
	switch word {
	case "read":
		return reads
	case "write":
		return writes
	case "any":
		return reads | writes
	}
	return 0
}

func (r *rules) addPlace(o ops, text string, w *words) error {
	first, last, err := parseRange(w.next())
	if err != nil {
		return err
	}
	cause, err := parseCause(w.next())
	if err != nil {
		return err
	}
	r.places = append(r.places, place{o, first, last, cause, text})
	return nil
}

func (r *rules) addTurn(w *words) error {
	word := w.next()
	n, err := strconv.ParseUint(strings.TrimRight(word, "sthnrd"), 10, 63) // 1st, 2nd, 3rd, 4th
	if err != nil || n == 0 {
		return wanted("a number from 1 up, as 7th", word)
	}
	t := &turn{ops: reads | writes, n: n}
	word = w.next()
	if o := direction(word); o != 0 {
		t.ops, word = o, w.next()
	}
	if word == "short" {
		t.half, t.cause = true, remora.ErrIO
		if len(*w) == 0 {
			r.turns = append(r.turns, t)
			return nil
		}
		word = w.next()
	}
	if t.cause, err = parseCause(word); err != nil {
		return err
	}
	r.turns = append(r.turns, t)
	return nil
}

func parseCause(word string) (remora.Cause, error) {
	if c := causes()[word]; c != 0 {
		return c, nil
	}
	return 0, wanted("a cause ("+strings.Join(slices.Sorted(maps.Keys(causes())), ", ")+")", word)
}

// parseRange gives the first and the last address.
func parseRange(word string) (first, last remora.Addr, err error) {
	const what = "addresses, as 0x1000-0x1fff (the last included), 0x1000+16, 0x1000 or everywhere"
	if word == "everywhere" {
		return 0, remora.MaxAddr, nil
	}
	at := strings.IndexAny(word, "-+")
	if at < 0 {
		n, err := strconv.ParseUint(word, 0, 64)
		if err != nil {
			return 0, 0, wanted(what, word)
		}
		return remora.Addr(n), remora.Addr(n), nil
	}
	a, errA := strconv.ParseUint(word[:at], 0, 64)
	b, errB := strconv.ParseUint(word[at+1:], 0, 64)
	if errA != nil || errB != nil {
		return 0, 0, wanted(what, word)
	}
	if word[at] == '+' {
		if b == 0 {
			return 0, 0, wanted("a size of 1 or more", word)
		}
		b += a - 1
	}
	if b < a {
		return 0, 0, wanted("a range that does not end before it begins", word)
	}
	return remora.Addr(a), remora.Addr(b), nil
}

// granule is the largest power of two up to size at which accessibility changes.
func (r *rules) granule(size uint32) uint32 {
	if len(r.turns) > 0 {
		return 1
	}
	for _, p := range r.places {
		for size > 1 && uint64(p.first|(p.last+1))&uint64(size-1) != 0 {
			size >>= 1
		}
	}
	return size
}

// stop gives how many bytes of a segment may be moved, and why no more; all of
// them if the cause is 0.
func (r *rules) stop(op remora.Op, s *remora.Seg) (n int, cause remora.Cause) {
	n = len(s.Buf)
	if n == 0 {
		return 0, 0
	}
	for i := range r.places {
		p := &r.places[i]
		if !p.ops.has(op) || p.last < s.Addr {
			continue
		}
		at := remora.Addr(0)
		if p.first > s.Addr {
			at = p.first - s.Addr
		}
		if uint64(at) < uint64(n) {
			n, cause = int(at), p.cause
		}
	}
	for _, t := range r.turns {
		if !t.ops.has(op) || t.count.Add(1)%t.n != 0 {
			continue
		}
		moved := 0
		if t.half {
			moved = len(s.Buf) / 2
		}
		if moved < n {
			n, cause = moved, t.cause
		}
	}
	return n, cause
}

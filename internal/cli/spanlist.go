// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/remora-go/remora"
)

// maxListLine is the longest line of a list of ranges.
const maxListLine = 1 << 20

// parseSpans reads ranges, and for each @FILE the ranges that the file lists: separated
// by blanks or line ends, # before a remark; @- is standard input.
func (l *locator) parseSpans(env *Env, args []string, def size) ([]remora.Range, error) {
	var all []remora.Range
	for _, arg := range args {
		if name, ok := strings.CutPrefix(arg, "@"); ok {
			more, err := l.readList(env, name, def)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
			continue
		}
		r, err := l.parseSpan(arg, def)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func (l *locator) readList(env *Env, name string, def size) ([]remora.Range, error) {
	in := env.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fileTrouble("read", err)
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewScanner(&until{l: l, r: in})
	lines.Buffer(nil, maxListLine)
	var all []remora.Range
	for n := 1; lines.Scan(); n++ {
		line, _, _ := bytes.Cut(lines.Bytes(), []byte("#"))
		for word := range bytes.FieldsSeq(line) {
			r, err := l.parseSpan(string(word), def)
			if err != nil {
				return nil, fmt.Errorf("%s: line %d: %w", name, n, err)
			}
			all = append(all, r)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, &fileError{"read", fmt.Errorf("%s: a line of more than 1 MiB", name)}
	case err != nil && l.ctx.Err() == nil:
		return nil, fileTrouble("read", err)
	case err != nil:
		return nil, err
	}
	return all, nil
}

// until is a reader that ends with the context of l.
type until struct {
	l *locator
	r io.Reader
}

func (u *until) Read(p []byte) (int, error) {
	if err := u.l.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// SPDX-License-Identifier: Apache-2.0

package remora_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/remora-go/remora"
)

func TestCauseIs(t *testing.T) {
	faults := map[remora.Cause]bool{}
	for c := remora.ErrFault; c <= remora.ErrNoTable; c++ {
		faults[c] = true
	}
	texts := map[string]remora.Cause{}
	for c := remora.ErrFault; c <= remora.ErrUnrecognized; c++ {
		if got := errors.Is(c, remora.ErrFault); got != faults[c] {
			t.Errorf("%v Is ErrFault: %t", c, got)
		}
		if got := errors.Is(c, fs.ErrPermission); got != (c == remora.ErrReadOnly) {
			t.Errorf("%v Is fs.ErrPermission: %t", c, got)
		}
		if errors.Is(c, fs.ErrNotExist) || errors.Is(c, context.Canceled) {
			t.Errorf("%v Is what it is not", c)
		}
		text := c.Error()
		if strings.Contains(text, "unknown") || texts[text] != 0 {
			t.Errorf("cause %d says %q, as does %d", uint8(c), text, uint8(texts[text]))
		}
		texts[text] = c
	}
	if errors.Is(remora.ErrUnmapped, remora.ErrHole) || errors.Is(remora.ErrFault, remora.ErrUnmapped) {
		t.Error("one fault Is another")
	}
	for _, c := range []remora.Cause{0, remora.ErrUnrecognized + 1, 255} {
		if want := fmt.Sprintf("unknown cause %d", uint8(c)); c.Error() != want || errors.Is(c, remora.ErrFault) {
			t.Errorf("cause %d says %q, want %q", uint8(c), c.Error(), want)
		}
	}
}

func TestFaultMessages(t *testing.T) {
	table := &remora.Fault{Space: "physical", Addr: 0x1f3a000, Err: remora.ErrNotSaved}
	for _, row := range []struct {
		f    remora.Fault
		want string
	}{
		{remora.Fault{Space: "pid 12", Addr: 0x7ffd2000, Err: remora.ErrUnmapped}, "read pid 12:0x7ffd2000: not mapped"},
		{remora.Fault{Space: "pid 12", Op: remora.Write | remora.Force, Err: remora.ErrProtected}, "write pid 12:0x0: page protection"},
		{remora.Fault{Space: "pid 12", Op: remora.Resident, Past: true, Err: remora.ErrUnmapped}, "read pid 12: past the last address: not mapped"},
		{remora.Fault{Space: "kernel", Addr: 0xffff888003a41000, Err: fmt.Errorf("page table: %w", table)},
			"read kernel:0xffff888003a41000: page table: read physical:0x1f3a000: not saved in this dump"},
	} {
		if got := row.f.Error(); got != row.want {
			t.Errorf("%s, want %s", got, row.want)
		}
		if !errors.Is(&row.f, row.f.Err) || !errors.Is(&row.f, remora.ErrFault) {
			t.Errorf("%s: does not unwrap to its cause", row.want)
		}
	}
}

func TestOtherErrors(t *testing.T) {
	refused := errors.New("operation not permitted")
	for _, row := range []struct {
		err   error
		want  string
		is    error
		is2nd error
		isNot error
	}{
		{err: &remora.AccessError{Target: "pid 7", Act: "attach to", Reason: "ptrace_scope is 1", Remedy: "run as root", Err: refused},
			want: "pid 7: not permitted to attach to it: ptrace_scope is 1; run as root", is: fs.ErrPermission, is2nd: refused, isNot: remora.ErrFault},
		{err: &remora.AccessError{Target: "pid 7", Act: "attach to", Err: refused},
			want: "pid 7: not permitted to attach to it: operation not permitted", is: fs.ErrPermission, is2nd: refused, isNot: fs.ErrClosed},
		{err: &remora.AccessError{Target: "pid 7", Act: "attach to"},
			want: "pid 7: not permitted to attach to it", is: fs.ErrPermission, is2nd: fs.ErrPermission, isNot: refused},
		{err: &remora.FormatError{File: "core", Offset: 4, Want: "class 2", Got: "class 9", Err: remora.ErrCorrupt},
			want: "core: offset 0x4: want class 2, found class 9", is: remora.ErrCorrupt, is2nd: remora.ErrFault, isNot: remora.ErrUnrecognized},
	} {
		if got := row.err.Error(); got != row.want {
			t.Errorf("%s, want %s", got, row.want)
		}
		if !errors.Is(row.err, row.is) || !errors.Is(row.err, row.is2nd) || errors.Is(row.err, row.isNot) {
			t.Errorf("%s: Is %v: %t, %v: %t, %v: %t", row.want, row.is, errors.Is(row.err, row.is),
				row.is2nd, errors.Is(row.err, row.is2nd), row.isNot, errors.Is(row.err, row.isNot))
		}
	}
}

// inner and outer are wrappers for As.
type (
	inner struct{ name string }
	outer struct{ below any }
)

func (o outer) Unwrap() any { return o.below }

func TestAs(t *testing.T) {
	in := &inner{"in"}
	if got, ok := remora.As[*inner](outer{outer{in}}); !ok || got != in {
		t.Errorf("through two wrappers: %v, %t", got, ok)
	}
	if got, ok := remora.As[outer](outer{outer{in}}); !ok || got.below != any(outer{in}) {
		t.Errorf("the nearest: %v, %t", got, ok)
	}
	for name, v := range map[string]any{"nil": nil, "a wrapper of nil": outer{nil}, "not a wrapper": struct{ *inner }{in}} {
		if got, ok := remora.As[*inner](v); ok || got != nil {
			t.Errorf("%s: found %v", name, got)
		}
	}
	if _, ok := remora.As[remora.Mapper](outer{in}); ok {
		t.Error("found an ability that nobody has")
	}
}

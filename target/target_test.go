// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/usercore"
)

// files writes a core, a text, and a core under a name that looks like a process.
func files(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	core := &testimage.Core{Loads: []testimage.Load{{Addr: 0x1000, Data: []byte("memory"), Flags: elf.PF_R}}}
	for name, data := range map[string][]byte{"core.1": core.Bytes(), "text": []byte("no core"), "1234": core.Bytes(), "cut": core.Bytes()[:70]} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenFiles(t *testing.T) {
	files(t)
	for _, spec := range []string{"core.1", "core:core.1", "./1234", "core:1234"} {
		c, err := Open(t.Context(), spec, nil)
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		if _, ok := c.(*usercore.Core); !ok {
			t.Errorf("%s: got a %T", spec, c)
		}
		b := make([]byte, 6)
		if _, err := c.Memory().ReadAt(t.Context(), b, 0x1000); err != nil || string(b) != "memory" {
			t.Errorf("%s: got %q, %v", spec, b, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	files(t)
	for _, c := range []struct {
		spec string
		o    *Options
		want error // nil: a SpecError that Is nothing else
	}{
		{"", nil, nil},
		{"pid:", nil, nil},
		{"pid:-1", nil, nil},
		{"pid:12x", nil, nil},
		{"core:", nil, nil},
		{"kernel@", nil, nil},
		{"kernel@x", nil, nil},
		{"nothing", nil, fs.ErrNotExist},
		{"qemu:nothing", nil, fs.ErrNotExist},
		{"core:nothing", nil, fs.ErrNotExist},
		{"99999999999999999999", nil, fs.ErrNotExist},
		{"pid:4294967297", nil, fs.ErrNotExist},
		{"text", nil, remora.ErrUnrecognized},
		{"core:text", nil, remora.ErrUnrecognized},
		{".", nil, remora.ErrUnrecognized},
		{"cut", nil, remora.ErrTruncated},
		{"core.1", &Options{Write: true}, remora.ErrReadOnly},
		{"core.1", &Options{Needs: []Ability{Mapper, Pauser}}, errors.ErrUnsupported},
		{"core.1", &Options{Needs: []Ability{Symbolizer}}, errors.ErrUnsupported},
	} {
		wantRefused(t, c.spec, c.o, c.want)
	}
}

// wantRefused opens what must not open: with the error want, or, where that is nil, a
// SpecError that Is nothing else.
func wantRefused(t *testing.T, text string, o *Options, want error) {
	t.Helper()
	tgt, err := Open(t.Context(), text, o)
	if err == nil {
		t.Errorf("%q: opened a %T", text, tgt)
		tgt.Close()
		return
	}
	var spec *SpecError
	if want == nil && (!errors.As(err, &spec) || spec.Err != nil) || want != nil && !errors.Is(err, want) {
		t.Errorf("%q: got %v, want %v", text, err, want)
	}
}

func TestAnUnknownSpecListsTheForms(t *testing.T) {
	_, err := Open(t.Context(), "nothing:at-all", nil)
	for _, form := range Forms() {
		if err == nil || !strings.Contains(err.Error(), form[0]) {
			t.Errorf("%v does not name %s", err, form[0])
		}
	}
}

func TestOpenHeedsItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, "self", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAbilitiesOfACore(t *testing.T) {
	files(t)
	c, err := Open(t.Context(), "core.1", &Options{Needs: []Ability{Mapper, Describer}})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestOpenSelf(t *testing.T) {
	p, err := Open(t.Context(), "self", &Options{Write: true, Needs: []Ability{Mapper, Pauser, Describer}, Door: proc.DoorMem})
	if runtime.GOOS != "linux" {
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), runtime.GOOS) {
			t.Errorf("got %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	own, ok := p.(*proc.Process)
	if !ok || own.Pid() != os.Getpid() || !p.Memory().Info().Writable {
		t.Errorf("got a %T, %+v", p, p.Memory().Info())
	}
	d, _ := remora.As[remora.Describer](p)
	facts, err := d.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range facts {
		if f.Key == "door" && !strings.HasPrefix(f.Value, "/proc/PID/mem") {
			t.Errorf("the door is %s", f.Value)
		}
	}
}

func TestACoreIsFoundWhateverItsPath(t *testing.T) {
	files(t)
	path, err := filepath.Abs("core.1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

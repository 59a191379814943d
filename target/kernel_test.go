// SPDX-License-Identifier: Apache-2.0

package target

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

// images writes kernel images of one page at 0x1000, whose first bytes are their name.
func images(t *testing.T, names ...string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, name := range names {
		mem := &testimage.Physical{}
		mem.Set(1, []byte(name))
		v := &testimage.VMCore{Mem: mem, Notes: []testimage.Note{testimage.VMCoreInfoNote([]byte("OSRELEASE=6.1.0\n"))}}
		if err := os.WriteFile(name, v.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenImages(t *testing.T) {
	images(t, "dump", "dump@phys", "only@phys", "other@12", "a,b")
	for spec, want := range map[string]string{
		"dump@phys":               "dump",
		"vmcore:dump@phys":        "dump",
		"./dump@phys@phys":        "dump@phys",
		"dump@phys@phys":          "dump@phys",
		"vmcore:./dump@phys@phys": "dump@phys",
		"only@phys@phys":          "only@phys",
		"a,b@phys":                "a,b",
		"vmcore:a,b@phys":         "a,b",
	} {
		tgt, err := Open(t.Context(), spec, nil)
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if _, ok := tgt.(*vmcore.Image); !ok {
			t.Errorf("%s: got a %T", spec, tgt)
		}
		if got, err := tgt.Memory().CString(t.Context(), 0x1000, 100); err != nil || got != want {
			t.Errorf("%s: %q, %v", spec, got, err)
		}
		tgt.Close()
	}
	for spec, want := range map[string]string{"dump": "dump", "vmcore:dump": "dump", "./dump@phys": "dump@phys", "only@phys": "only@phys", "other@12": "other@12"} {
		tgt, err := Open(t.Context(), spec, &Options{Needs: []Ability{Mapper, Describer}})
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		k, ok := tgt.(*Kernel)
		if !ok {
			t.Fatalf("%s: got a %T", spec, tgt)
		}
		if got, err := k.Phys.Memory().CString(t.Context(), 0x1000, 100); err != nil || got != want || k.Memory().Info().Name != want {
			t.Errorf("%s: %q, %v", spec, got, err)
		}
		_, err = k.Memory().Uint8(t.Context(), 0x1000)
		if !errors.Is(err, remora.ErrNoTable) || !strings.Contains(err.Error(), "swapper_pg_dir") {
			t.Errorf("%s: %v", spec, err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		if _, err := k.Memory().Uint8(t.Context(), 0x1000); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: after Close: %v", spec, err)
		}
	}
}

func TestOpenImagesRefuses(t *testing.T) {
	images(t, "dump", "second")
	for _, c := range []struct {
		spec string
		o    *Options
		want error // nil: a SpecError that Is nothing else
	}{
		{"dump@123", nil, remora.ErrNoTable},
		{"vmcore:dump@123", nil, remora.ErrNoTable},
		{"vmcore:", nil, nil},
		{"vmcore:dump,", nil, nil},
		{"vmcore:nothing", nil, fs.ErrNotExist},
		{"nothing@phys", nil, fs.ErrNotExist},
		{"@phys", nil, fs.ErrNotExist},
		{"vmcore:dump,second", nil, remora.ErrCorrupt},
		{"dump", &Options{Format: vmcore.LiME}, remora.ErrUnrecognized},
		{"dump", &Options{Needs: []Ability{Pauser}}, errors.ErrUnsupported},
	} {
		wantRefused(t, c.spec, c.o, c.want)
	}
}

func TestACompressedImageIsNotWrittenInPlace(t *testing.T) {
	t.Chdir(t.TempDir())
	mem := &testimage.Physical{}
	mem.Set(1, []byte("text"))
	if err := os.WriteFile("dump", testimage.NewKdump(mem).Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{"dump", "dump@phys"} {
		if _, err := Open(t.Context(), spec, &Options{Write: true}); !errors.Is(err, remora.ErrReadOnly) || !strings.Contains(err.Error(), "convert") {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

func TestOpenForcesAFormat(t *testing.T) {
	images(t, "dump")
	for _, o := range []Options{
		{Format: vmcore.Raw, Base: 0x40000000},
		{Base: 0x40000000},
		{Segments: []remora.Range{{Start: 0x40000000, Size: 0x1000}}},
	} {
		tgt, err := Open(t.Context(), "dump@phys", &o)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := tgt.Memory().Uint8(t.Context(), 0x40000000); err != nil || n != 0x7f {
			t.Errorf("%+v: %#x, %v", o, n, err)
		}
		tgt.Close()
	}
}

func TestImagesAreWrittenInPlace(t *testing.T) {
	images(t, "dump")
	tgt, err := Open(t.Context(), "dump@phys", &Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tgt.Memory().WriteAt(t.Context(), []byte("pump"), 0x1000); err != nil {
		t.Error(err)
	}
	tgt.Close()
	if b, err := os.ReadFile("dump"); err != nil || !strings.Contains(string(b), "pump") {
		t.Errorf("the file does not hold what was written: %v", err)
	}
}

func TestContentKnowsWhatTheKernelSays(t *testing.T) {
	t.Chdir(t.TempDir())
	mem := &testimage.Physical{}
	mem.Set(1, []byte("text"))
	v := &testimage.VMCore{Mem: mem, Notes: []testimage.Note{testimage.VMCoreInfoNote([]byte("NUMBER(phys_base)=-4096\n"))}}
	if err := os.WriteFile("dump", v.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{"dump", "dump@phys"} {
		tgt, err := Open(t.Context(), spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := Content(t.Context(), tgt); err != nil || c.PhysBase != 1<<64-4096 {
			t.Errorf("%s: %+v, %v", spec, c, err)
		}
		tgt.Close()
	}
}

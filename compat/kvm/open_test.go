// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// openFake opens a file that only fakeOpener knows.
func openFake(t *testing.T, o *Options, namelist string, flag int) (*Handle, *fake) {
	t.Helper()
	var made []*fake
	if o == nil {
		o = &Options{}
	}
	o.Openers = append(o.Openers, fakeOpener(&made, func(c *Config) *fake { return newFake(t, c) }))
	h, err := OpenWith(t.Context(), o, namelist, writeFile(t, "image", "FAKE"), "swap", flag, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if len(made) != 1 || made[0].config.Swapfile != "swap" {
		t.Fatalf("%d images, configuration %+v: want one, which is told of the swap file", len(made), made[0].config)
	}
	return h, made[0]
}

func TestR88FlagIsExactlyReadOnlyOrReadWrite(t *testing.T) {
	t.Setenv(debugVariable, "")
	os.Unsetenv(debugVariable)
	for _, flag := range []int{os.O_WRONLY, 3, -1, os.O_RDWR | 0x80000, os.O_RDONLY | 0x400} {
		h, err := Open("", "", "", flag, "")
		if h != nil {
			t.Fatalf("flag 0x%x was taken", flag)
		}
		wantError(t, err, errno.EINVAL, fs.ErrInvalid)
	}
	for _, flag := range []int{os.O_RDONLY, os.O_RDWR} {
		_, f := openFake(t, nil, "", flag)
		if f.config.Write != (flag == os.O_RDWR) {
			t.Errorf("flag %d: the image was opened with write %v", flag, f.config.Write)
		}
	}
}

func TestR89OtherDevicesAreNoImage(t *testing.T) {
	for _, file := range []string{os.DevNull, t.TempDir()} {
		if _, err := os.Stat(file); err != nil {
			continue // Windows has NUL, which is no file
		}
		_, err := Open("", file, "", os.O_RDONLY, "")
		wantError(t, err, errno.EINVAL, remora.ErrUnrecognized)
	}
}

func TestR90UnknownFormatIsATypedError(t *testing.T) {
	var made []*fake
	o := &Options{Openers: []Opener{fakeOpener(&made, nil)}}
	for _, opts := range []*Options{nil, o} {
		_, err := OpenWith(t.Context(), opts, "", writeFile(t, "other", "something else"), "", os.O_RDONLY, "")
		wantError(t, err, errno.EINVAL, remora.ErrUnrecognized)
		var bad *remora.FormatError
		if !errors.As(err, &bad) {
			t.Errorf("%v: want a *remora.FormatError", err)
		}
	}
	_, err := Open("", t.TempDir()+"/none", "", os.O_RDONLY, "")
	wantError(t, err, errno.ENOENT, fs.ErrNotExist)
}

// TestOpenerErrors: only a format that is not recognized goes on to the next opener.
func TestOpenerErrors(t *testing.T) {
	corrupt := func() Opener {
		inner := fakeOpener(new([]*fake), nil)
		return func(ctx context.Context, c *Config) (Image, error) {
			if _, err := inner(ctx, c); errors.Is(err, remora.ErrUnrecognized) {
				return nil, &remora.FormatError{File: c.Corefile, Want: "a header", Got: "half of one", Err: remora.ErrCorrupt}
			}
			return nil, errors.New("not reached")
		}
	}()
	var made []*fake
	never := fakeOpener(&made, func(c *Config) *fake { return newFake(t, c) })
	_, err := OpenWith(t.Context(), &Options{Openers: []Opener{corrupt, never}}, "", writeFile(t, "image", "DAMAGED"), "", os.O_RDONLY, "")
	wantError(t, err, errno.EIO, remora.ErrCorrupt)
}

func TestR91NamelistOfAnImageGivesWayToItsSymbols(t *testing.T) {
	bad := writeFile(t, "names", "no symbols here\n")
	var made []*fake
	plain := &Options{Openers: []Opener{fakeOpener(&made, func(c *Config) *fake { return newFake(t, c) })}}
	if _, err := OpenWith(t.Context(), plain, bad, writeFile(t, "image", "FAKE"), "", os.O_RDONLY, ""); !errors.Is(err, remora.ErrUnrecognized) {
		t.Errorf("%v: want the error of the namelist, as this image has no symbols", err)
	}
	if made[0].ended != 1 {
		t.Error("the image was not closed")
	}
	own := &Options{Openers: []Opener{func(_ context.Context, c *Config) (Image, error) { return &named{fake: newFake(t, c)}, nil }}}
	h, err := OpenWith(t.Context(), own, bad, writeFile(t, "image", "FAKE"), "", os.O_RDONLY, "")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	list := []Nlist{{Name: "init_task"}, {Name: "absent"}}
	if n, err := h.NList(t.Context(), list); n != 1 || err != nil || list[0].Value != 0xffffffff82000000 {
		t.Errorf("%d, %v, %+v", n, err, list)
	}
}

func TestR92ErrstrIsPrefixAndSwitch(t *testing.T) {
	none := t.TempDir() + "/none"
	for _, c := range []struct {
		errstr, debug string // debug "-": not set
		want          string
	}{
		{"prog", "-", "prog: "},
		{"", "-", ""},
		{"", "1", "KVM_DEBUG: "},
		{"", "", "KVM_DEBUG: "}, // set, though empty
		{"prog", "1", "prog: "},
	} {
		t.Setenv(debugVariable, c.debug)
		if c.debug == "-" {
			os.Unsetenv(debugVariable)
		}
		var out strings.Builder
		h, err := OpenWith(t.Context(), &Options{Stderr: &out}, "", none, "", os.O_RDONLY, c.errstr)
		if h != nil || err == nil {
			t.Fatal("opened")
		}
		text := out.String()
		if (text == "") != (c.want == "") || !strings.HasPrefix(text, c.want) {
			t.Errorf("errstr %q, KVM_DEBUG %q: %q, want %q and a message", c.errstr, c.debug, text, c.want)
		}
		if text != "" && (!strings.Contains(text, none) || strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n")) {
			t.Errorf("%q: want one line that names the file", text)
		}
	}
}

func TestR93CloseAndSetProcSucceed(t *testing.T) {
	h, f := openFake(t, nil, "", os.O_RDONLY)
	for range 2 {
		if err := h.SetProc(); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	if f.ended != 1 {
		t.Errorf("the image was closed %d times", f.ended)
	}
	n, err := h.KRead(t.Context(), make([]byte, 1), kernelBase)
	wantFailed(t, n, err, errno.EBADF, fs.ErrClosed)
	_, err = h.NextProc(t.Context())
	wantError(t, err, errno.EBADF, fs.ErrClosed)
	_, err = h.GetProc(t.Context(), 1)
	wantError(t, err, errno.EBADF, fs.ErrClosed)
	_, _, err = h.GetCmd(t.Context(), &Proc{PID: 1}, nil)
	wantError(t, err, errno.EBADF, fs.ErrClosed)
	n, err = h.NList(t.Context(), []Nlist{{Name: "x"}})
	wantFailed(t, n, err, errno.EBADF, fs.ErrClosed)
}

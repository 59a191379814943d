// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// Handle is an open kernel: kvm_t in libkvm.
type Handle struct {
	img     Image
	write   bool
	closed  bool
	names   *namelist // nil: those of the image
	walk    Walk      // nil: at the start of the list
	current *process  // nil: none
}

// Options are what libkvm does not have. Nil is the same as the zero Options.
type Options struct {
	// Overlay keeps what is written in memory: neither the running system nor the
	// image file is changed.
	Overlay bool
	// Openers are tried on an image file, in this order, before those that this
	// package knows.
	Openers []Opener
	// Stderr gets the message of errstr; nil is os.Stderr.
	Stderr io.Writer
}

// debugVariable is the variable of the environment that gives errstr a value (R92).
const debugVariable = "KVM_DEBUG"

// Open is kvm_open(3KVM). An empty argument is a NULL of C.
//
// namelist is a file with the symbols of the kernel: an ELF file, a System.map, or
// the text of /proc/kallsyms. Empty: the symbols of the image itself. A namelist
// that cannot be used is an error for the running system; that of an image file
// gives way to the symbols of the image (R91).
//
// corefile is the image. Empty, /dev/mem, /dev/kmem, /dev/allkmem or /proc/kcore: the
// running system (R89). "qemu:SOCKET" and "gdb:ADDRESS": a guest that runs, as package
// target has it. swapfile is for images that lack what was swapped out.
//
// flag is os.O_RDONLY or os.O_RDWR, exactly (R88). With a non-empty errstr each
// failure of Open is also written to the standard error output, as "errstr: message";
// with an empty one only when KVM_DEBUG is set in the environment (R92).
func Open(namelist, corefile, swapfile string, flag int, errstr string) (*Handle, error) {
	return OpenWith(context.Background(), nil, namelist, corefile, swapfile, flag, errstr)
}

// OpenWith is Open with options.
func OpenWith(ctx context.Context, o *Options, namelist, corefile, swapfile string, flag int, errstr string) (*Handle, error) {
	if o == nil {
		o = &Options{}
	}
	h, err := o.open(ctx, namelist, corefile, swapfile, flag)
	if err != nil {
		o.report(errstr, err)
		return nil, fail("kvm_open", err)
	}
	return h, nil
}

// New gives a handle of an image, which it owns. Write says whether the handle is
// one of os.O_RDWR.
func New(img Image, write bool) *Handle { return &Handle{img: img, write: write} }

// report writes what Open has to say to the standard error output.
func (o *Options) report(errstr string, err error) {
	if _, debug := os.LookupEnv(debugVariable); errstr == "" {
		if !debug {
			return
		}
		errstr = debugVariable
	}
	w := o.Stderr
	if w == nil {
		w = os.Stderr
	}
	fmt.Fprintf(w, "%s: %v\n", errstr, err)
}

func (o *Options) open(ctx context.Context, namelist, corefile, swapfile string, flag int) (*Handle, error) {
	if flag != os.O_RDONLY && flag != os.O_RDWR {
		return nil, &flagError{flag}
	}
	c := &Config{Corefile: corefile, Swapfile: swapfile, Write: flag == os.O_RDWR && !o.Overlay, Overlay: o.Overlay}
	img, err := o.image(ctx, c)
	if err != nil {
		return nil, err
	}
	h := New(img, flag == os.O_RDWR)
	if namelist == "" {
		return h, nil
	}
	switch names, err := openNamelist(namelist); {
	case err == nil:
		h.names = names
	case !hasSymbols(img): // the running system counts as one that has none (R91)
		return nil, errors.Join(err, img.Close())
	}
	return h, nil
}

// isRunning says whether corefile names the running system.
func isRunning(corefile string) bool {
	switch corefile {
	case "", "/dev/mem", "/dev/kmem", "/dev/allkmem", "/proc/kcore":
		return true
	}
	return false
}

// isGuest says whether corefile names a guest that runs, as package target does.
func isGuest(corefile string) bool {
	return strings.HasPrefix(corefile, "qemu:") || strings.HasPrefix(corefile, "gdb:")
}

// openers are the kinds of image file that are known here, besides those of Options.
func openers() []Opener { return []Opener{OpenImage} }

func (o *Options) image(ctx context.Context, c *Config) (Image, error) {
	if isRunning(c.Corefile) {
		return openRunning(c)
	}
	if isGuest(c.Corefile) {
		return openGuest(ctx, c)
	}
	st, err := os.Stat(c.Corefile)
	if err != nil {
		return nil, err
	}
	if st.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice|fs.ModeCharDevice || st.IsDir() {
		return nil, unknownImage(c.Corefile, "a directory or a device")
	}
	for _, open := range append(o.Openers[:len(o.Openers):len(o.Openers)], openers()...) {
		img, err := open(ctx, c)
		if err == nil || !errors.Is(err, remora.ErrUnrecognized) {
			return img, err
		}
	}
	return nil, unknownImage(c.Corefile, "none of those that are known here")
}

func unknownImage(file, got string) error {
	return &remora.FormatError{File: file, Want: "a kernel image", Got: got, Err: remora.ErrUnrecognized}
}

// flagError is a flag that Open does not take.
type flagError struct{ flag int }

func (e *flagError) Error() string {
	return fmt.Sprintf("flag 0x%x: want O_RDONLY or O_RDWR", e.flag)
}

func (e *flagError) Unwrap() error { return errno.EINVAL }

// Close is kvm_close(3KVM). The number that C returns is 0 in any case (R93); the
// error is what went wrong all the same. Closing twice is fine.
func (h *Handle) Close() error {
	if h.closed {
		return nil
	}
	h.closed = true
	h.walk = nil
	return errors.Join(h.setCurrent(nil), h.img.Close())
}

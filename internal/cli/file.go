// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
)

// outputFlag adds -o to a verb.
func outputFlag(flags *pflag.FlagSet) *string {
	return flags.StringP("output", "o", "", "write to `FILE` instead of standard output")
}

// outFile is a file that appears under its name when it is whole, and never half
// written. It may hold memory of a process, so only its owner may read it.
type outFile struct {
	file   *os.File
	name   string // where it is to be
	temp   string // where it is now; empty for what cannot be replaced, such as a device
	failed error  // of writing
}

// createFile starts a file beside the one that it will replace.
func createFile(name string) (*outFile, error) {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	st, err := os.Stat(name)
	switch {
	case err == nil && st.IsDir():
		return nil, &fileError{"write", fmt.Errorf("%s: is a directory", name)}
	case err == nil && !st.Mode().IsRegular():
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return nil, fileTrouble("write", err)
		}
		return &outFile{file: f, name: name}, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fileTrouble("write", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return nil, fileTrouble("write", err)
	}
	return &outFile{file: f, name: name, temp: f.Name()}, nil
}

func (f *outFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	if err != nil && f.failed == nil {
		f.failed = err
	}
	return n, err
}

// WriteAt writes anywhere in the file.
func (f *outFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.file.WriteAt(p, off)
	if err != nil && f.failed == nil {
		f.failed = fileTrouble("write", err)
		if bad, ok := errors.AsType[*fs.PathError](err); ok { // the name that it has now says nothing
			f.failed = &fileError{"write", fmt.Errorf("%s: %w", f.name, bad.Err)}
		}
	}
	return n, err
}

// Truncate makes the file shorter or longer.
func (f *outFile) Truncate(size int64) error { return f.file.Truncate(size) }

// commit puts the file where it is to be.
func (f *outFile) commit() error {
	err := f.file.Close()
	if err == nil && f.temp != "" {
		err = os.Rename(f.temp, f.name)
	}
	if err != nil {
		f.abandon()
		return fileTrouble("write", err)
	}
	return nil
}

// abandon leaves nothing behind.
func (f *outFile) abandon() {
	f.file.Close()
	if f.temp != "" {
		os.Remove(f.temp)
	}
}

// fileTrouble names the file and the cause, without the system call.
func fileTrouble(act string, err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		err = fmt.Errorf("%s: %w", path.Path, path.Err)
	case errors.As(err, &link):
		err = fmt.Errorf("%s: %w", link.New, link.Err)
	}
	return &fileError{act, err}
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// print prints a Result as it was asked for, and closes it.
func (v *invocation) print(c *Command, res Result) (err error) {
	if closer, ok := res.(io.Closer); ok {
		defer func() { err = errors.Join(err, closer.Close()) }()
	}
	name := ""
	if o, ok := res.(outputter); ok {
		name = o.Output()
	}
	if name == "" || name == "-" {
		return v.printTo(v.out, c, res)
	}
	f, err := createFile(name)
	if err != nil {
		return err
	}
	v.begun(f)
	err = v.printTo(f, c, res)
	v.begun(nil)
	if f.failed != nil {
		f.abandon()
		return err
	}
	return errors.Join(err, f.commit())
}

// printTo prints a Result into w. When writing fails that is the only error: what
// else went wrong came of it, or is not worth a second line.
func (v *invocation) printTo(w io.Writer, c *Command, res Result) error {
	out := &watched{w: w}
	buf := bufio.NewWriterSize(out, 64<<10)
	var err error
	switch stream, ok := res.(Streamer); {
	case !v.json:
		err = res.Text(buf)
	case ok:
		err = stream.Lines(func(object any) error { return writeObject(buf, c, object) })
	default:
		err = writeObject(buf, c, res)
	}
	if e := buf.Flush(); e != nil || out.err != nil {
		return out.err
	}
	return err
}

func writeObject(w io.Writer, c *Command, object any) error {
	line, err := encode("remora."+c.Name+"/1", object)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// watched remembers the first error of writing.
type watched struct {
	w   io.Writer
	err error
}

func (o *watched) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil && o.err == nil {
		var path *fs.PathError
		if errors.As(err, &path) && path.Path == "/dev/stdout" {
			err = fmt.Errorf("standard output: %w", path.Err)
		} else if errors.As(err, &path) {
			err = fmt.Errorf("%s: %w", path.Path, path.Err)
		}
		o.err = &fileError{"write", err}
	}
	return n, err
}

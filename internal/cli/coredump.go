// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/scan"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/usercore"
)

// coreDump is the Result of dump for a process. Amounts are in bytes.
type coreDump struct {
	Target  string   `json:"target"`
	File    string   `json:"file"`
	Size    int64    `json:"size"`
	Threads int      `json:"threads"`
	Saved   uint64   `json:"saved"`
	Zeros   uint64   `json:"zeros"`    // of them
	Left    uint64   `json:"left_out"` // never touched, or of files
	Missing uint64   `json:"missing"`
	Unknown []string `json:"unknown,omitempty"`
}

// dumpCore writes the core file of a process.
func dumpCore(ctx context.Context, env *Env, t remora.Target, spec, file string) (Result, error) {
	c, lacks, err := target.Core(ctx, t)
	if err != nil {
		return nil, err
	}
	d := &coreDump{Target: spec, File: file, Threads: len(c.Threads)}
	for _, err := range lacks {
		d.Unknown = append(d.Unknown, err.Error())
		env.Note("not known: " + err.Error())
	}
	done, err := d.write(ctx, env, c)
	if err != nil {
		return nil, err
	}
	d.Size, d.Saved, d.Zeros, d.Left, d.Missing = done.Size, done.Saved, done.Zeros, done.Left, done.Missing
	gaps := faults{ctx: ctx, mem: c.Memory}
	for _, g := range done.Gaps {
		gaps.add(&scan.Piece{Addr: g.Start, Size: g.Size, Err: g.Err})
	}
	return d, gaps.errors()
}

// write writes the file.
func (d *coreDump) write(ctx context.Context, env *Env, c *usercore.Contents) (*usercore.Written, error) {
	f, err := createFile(d.File)
	if err != nil {
		return nil, err
	}
	env.begun(f)
	defer env.begun(nil)
	done, err := usercore.Write(ctx, f, c)
	if err == nil {
		err = f.Truncate(done.Size)
	}
	if err != nil {
		f.abandon()
		if f.failed != nil {
			err = f.failed
		}
		return nil, err
	}
	return done, f.commit()
}

// Text tells how much was written.
func (d *coreDump) Text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s: %d threads, %d bytes of memory, of them %d in pages of zeros; %d are left out, %d are missing\n",
		harmless(d.File), d.Threads, d.Saved, d.Zeros, d.Left, d.Missing)
	return err
}

// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/kernel"
)

// Process is a process in a kernel image as a target. Its Memory is that of the process.
type Process struct {
	*kernel.Process
	Kernel *Kernel // the kernel that it ran on

	swaps []io.Closer
}

var (
	_ remora.Target     = (*Process)(nil)
	_ remora.Mapper     = (*Process)(nil)
	_ remora.Translator = (*Process)(nil)
	_ remora.Describer  = (*Process)(nil)
	_ remora.Pauser     = (*Process)(nil)
)

// openedProcess gives a process of a kernel, and keeps the kernel: closing the one closes
// the other.
func openedProcess(ctx context.Context, k *Kernel, digits string, o *Options) (*Process, error) {
	pid, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || pid > math.MaxInt32 {
		return nil, fmt.Errorf("%s: there is no process %s: no process has so large a number: %w", k.Info().Name, digits, fs.ErrNotExist)
	}
	p := &Process{Kernel: k}
	swaps, err := p.openSwaps(o.Swap)
	if err == nil {
		p.Process, err = k.Process(ctx, int(pid), &kernel.ProcessOptions{Swaps: swaps})
	}
	if err != nil {
		return nil, errors.Join(err, p.closeSwaps())
	}
	return p, nil
}

// Pause stops the machine that the process runs on: see Kernel.Pause.
func (p *Process) Pause(ctx context.Context) (resume func() error, err error) {
	return p.Kernel.Pause(ctx)
}

// openSwaps opens the swap files.
func (p *Process) openSwaps(specs []string) (all []kernel.SwapFile, err error) {
	for _, spec := range specs {
		s := kernel.SwapFile{Type: -1, Name: spec}
		if n, path, ok := strings.Cut(spec, "="); ok && allDigits(n) && len(n) < 4 {
			s.Type, _ = strconv.Atoi(n)
			s.Name = path
		}
		f, err := os.Open(s.Name)
		if err != nil {
			return nil, err
		}
		p.swaps = append(p.swaps, f)
		if s.Size, err = f.Seek(0, io.SeekEnd); err != nil { // of a device, too
			return nil, err
		}
		s.R = f
		all = append(all, s)
	}
	return all, nil
}

func (p *Process) closeSwaps() (err error) {
	for _, f := range p.swaps {
		err = errors.Join(err, f.Close())
	}
	p.swaps = nil
	return err
}

// Close closes the image and the swap files.
func (p *Process) Close() error {
	return errors.Join(p.Process.Close(), p.Kernel.Close(), p.closeSwaps())
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// imageOf gives the image that a target is made of. who says what it is wanted for.
func imageOf(t remora.Target, who string) (*vmcore.Image, error) {
	switch t := t.(type) {
	case *vmcore.Image:
		return t, nil
	case *target.Kernel:
		if img, ok := t.Phys.(*vmcore.Image); ok {
			return img, nil
		}
	}
	return nil, fmt.Errorf("%s is no kernel image, and %s: %w", t.Memory().Info().Name, who, errors.ErrUnsupported)
}

// ramRow is a run of physical memory.
type ramRow struct {
	Start string `json:"start"`
	End   string `json:"end"` // the first address behind it
	Size  uint64 `json:"size"`
	State string `json:"state"` // saved, or the cause for which it is not
	Zeros bool   `json:"zeros,omitempty"`
	Rest  bool   `json:"rest,omitempty"` // all that the image should have named: how much of it is memory is not known

	start remora.Addr
}

// addImage adds what was asked for of a kernel image.
func (r *info) addImage(ctx context.Context, t remora.Target, o *infoOptions) error {
	if !o.ram {
		return nil
	}
	img, err := imageOf(t, "--ram is for those")
	if err != nil {
		return err
	}
	for run, err := range img.Runs(ctx) {
		if err != nil {
			return fmt.Errorf("%s: %w", img.Info().Name, err)
		}
		row := ramRow{Start: run.Start.String(), End: endText(run.Range), Size: run.Size, State: "saved", Zeros: run.Zeros, Rest: run.Rest, start: run.Start}
		if run.Err != nil {
			row.State = run.Err.Error()
		}
		if n := len(r.RAM); n > 0 && r.RAM[n-1].End == row.Start && r.RAM[n-1].State == row.State && r.RAM[n-1].Zeros == row.Zeros && !row.Rest {
			r.RAM[n-1].End, r.RAM[n-1].Size = row.End, r.RAM[n-1].Size+row.Size
			continue
		}
		r.RAM = append(r.RAM, row)
	}
	return nil
}

// imageText prints what addImage has added.
func (r *info) imageText(w io.Writer) error {
	if len(r.RAM) > 0 {
		if _, err := io.WriteString(w, "\nphysical memory\n"); err != nil {
			return err
		}
	}
	for i := range r.RAM {
		row := &r.RAM[i]
		size := strconv.FormatUint(row.Size>>10, 10)
		if row.Rest {
			size = "?"
		}
		if _, err := fmt.Fprintf(w, "  %016x-%016x %12s KiB  %s\n", uint64(row.start), uint64(row.start)+row.Size, size, row.State); err != nil {
			return err
		}
	}
	return nil
}

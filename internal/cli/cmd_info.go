// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

func infoCommand() Command {
	return Command{
		Name:  "info",
		Args:  "TARGET",
		Short: "say what a target is, and how it is reached",
		Long: "Lists facts about the target: what it is, which way into it is in use and why, what can be done with its\n" +
			"memory. For a process in another pid namespace its numbers there are given.\n\n" +
			"Of a kernel image it tells the format and why it was taken for it, what was left out and what is lost; where the\n" +
			"kernel is in it, how that was found out and by what it was checked, or all that was tried; and what is not to be\n" +
			"had, and why. --ram adds what of physical memory is saved, run by run.\n\n" +
			"The kernel is looked for by the VMCOREINFO that the image or --vmcoreinfo has, by the registers of a processor,\n" +
			"and then in all memory that is saved. --vmcoreinfo takes the text that makedumpfile -g writes.",
		Examples: []string{
			"remora info 1234           # a live process",
			"remora info core:core.1234 # what made the core, and what is missing",
			"remora info vmcore --ram   # a kernel image, with its memory run by run",
		},
		Needs: []target.Ability{target.Describer},
		New: func(flags *pflag.FlagSet) Run {
			o := &infoOptions{open: openFlags(flags)}
			flags.BoolVar(&o.open.Write, "write", false, "open for writing too")
			flags.BoolVar(&o.ram, "ram", false, "list the physical memory of a kernel image")
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runInfo(ctx, env, args[0], o)
			}
		},
	}
}

// infoOptions are the flags of info.
type infoOptions struct {
	open *target.Options
	ram  bool
}

// info is what is known of a target.
type info struct {
	Target string     `json:"target"`
	Facts  []infoFact `json:"facts"`
	Memory infoMemory `json:"memory"`
	RAM    []ramRow   `json:"ram,omitempty"`
}

type infoFact struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type infoMemory struct {
	Name        string `json:"name"`
	Ops         string `json:"ops"` // what is honoured besides reading
	PointerSize uint8  `json:"pointer_size"`
	BigEndian   bool   `json:"big_endian"`
	Granule     uint32 `json:"granule"`
	Last        string `json:"last"`
	Writable    bool   `json:"writable"`
	Live        bool   `json:"live"`
}

func runInfo(ctx context.Context, env *Env, spec string, o *infoOptions) (Result, error) {
	t, err := env.Open(ctx, spec, o.open)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	d, _ := remora.As[remora.Describer](t)
	facts, err := d.Describe(ctx)
	m := t.Memory().Info()
	if err != nil {
		err = fmt.Errorf("%s: %w", m.Name, err)
	}
	res := &info{Target: spec, Memory: infoMemory{
		Name: m.Name, Ops: m.Ops.String(), PointerSize: m.PtrSize, BigEndian: m.BigEndian,
		Granule: m.Granule, Last: m.Last.String(), Writable: m.Writable, Live: m.Live,
	}}
	for _, f := range facts {
		res.Facts = append(res.Facts, infoFact(f))
	}
	return res, errors.Join(err, res.addImage(ctx, t, o))
}

// Text prints the facts in two columns.
func (r *info) Text(w io.Writer) error {
	width := 0
	for _, f := range r.Facts {
		width = max(width, utf8.RuneCountInString(f.Key))
	}
	for _, f := range r.Facts {
		if _, err := fmt.Fprintf(w, "%-*s  %s\n", width, harmless(f.Key), harmless(f.Value)); err != nil {
			return err
		}
	}
	return r.imageText(w)
}

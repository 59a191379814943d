// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/pflag"

	"github.com/remora-go/remora/vmcore"
)

// formatOptions say what an image that is written is to be.
type formatOptions struct {
	to     choice
	codec  choice
	level  int
	chosen bool // one of the two
}

// formatFlags adds the flags of formatOptions. Whoever has them sets chosen.
func formatFlags(flags *pflag.FlagSet) *formatOptions {
	o := &formatOptions{
		to: choice{value: "elf", of: []string{"elf", "kdump"}}, codec: choice{value: "zlib", of: []string{"zlib", "zstd", "snappy", "none"}},
	}
	flags.Var(&o.to, "to", "write an image of `FORMAT`: elf or kdump")
	flags.Var(&o.codec, "compress", "compress the pages of a kdump image by `CODEC`: zlib, zstd, snappy or none")
	flags.IntVar(&o.level, "level", 0, "compress with level `N`: 1 to 9 for zlib, 1 to 22 for zstd; 0 is its own choice")
	return o
}

// check finds flags that do not go together.
func (o *formatOptions) check() error {
	most := map[string]int{"zlib": 9, "zstd": 22}[o.codec.value]
	switch {
	case o.chosen && o.to.value != "kdump":
		return usagef("--compress and --level are for --to kdump")
	case o.level < 0 || o.level > 0 && most == 0, o.level > most:
		return usagef("--level %d: want 1 to 9 with zlib, 1 to 22 with zstd", o.level)
	}
	return nil
}

// write gives what vmcore.Write is to do, and tells it to a Result.
func (o *formatOptions) write(c *conversion) *vmcore.WriteOptions {
	w := &vmcore.WriteOptions{To: vmcore.Format(o.to.value)}
	if o.to.value == "kdump" {
		c.Codec = o.codec.value
		w.Codec, w.Level = vmcore.Codec(o.codec.value), o.level
	}
	return w
}

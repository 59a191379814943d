// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/remora-go/remora"
)

// Clock is how late it was when the image was made.
type Clock struct {
	Uptime time.Duration // since the system started, also while it was suspended
	Now    time.Time     // by the clock of the system, in UTC; zero: not known
	How    string        // where that is from
}

// Clock reads the kernel's clock. It may be behind by as long as every processor idled.
func (k *Kernel) Clock(ctx context.Context) (*Clock, error) {
	c, why := k.timekeeper(ctx)
	if why == nil || ctx.Err() != nil {
		return c, why
	}
	all, err := k.Processors(ctx)
	c = &Clock{How: "the clocks of the run queues"}
	for _, p := range all {
		c.Uptime = max(c.Uptime, p.Clock)
	}
	if c.Uptime == 0 {
		return nil, fmt.Errorf("%w; nor do run queues tell the time: %w", why, orNone(err))
	}
	return c, nil
}

func orNone(err error) error {
	if err == nil {
		return remora.ErrNotPresent
	}
	return err
}

// maxUptime is what a clock is believed, 100 years.
const maxUptime = 100 * 365 * 24 * time.Hour

// timekeeper reads struct timekeeper, where its copies are: timekeeper_data since 6.17,
// tk_core since 6.13, and shadow_timekeeper before.
func (k *Kernel) timekeeper(ctx context.Context) (*Clock, error) {
	types, err := k.Types(ctx)
	if err != nil {
		return nil, fmt.Errorf("the time: %w", err)
	}
	var base, nsec, shift, boot, realOff, inData field
	if err := types.fields(ctx,
		wanted{&base, "timekeeper.tkr_mono.base", false},
		wanted{&nsec, "timekeeper.tkr_mono.xtime_nsec", false},
		wanted{&shift, "timekeeper.tkr_mono.shift", false},
		wanted{&boot, "timekeeper.offs_boot", false},
		wanted{&realOff, "timekeeper.offs_real", false},
		wanted{&inData, "tk_data.timekeeper", true},
	); err != nil {
		return nil, fmt.Errorf("the time: %w", err)
	}
	names := []string{"timekeeper_data", "tk_core"}
	if !inData.has() {
		names = []string{"shadow_timekeeper"}
	}
	var at remora.Addr
	for _, name := range names {
		if at, err = k.symbol(ctx, name); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the time: %w", err)
	}
	at += remora.Addr(inData.off)
	r := k.reader(ctx)
	mono := r.uint(at, base) + r.uint(at, nsec)>>min(r.uint(at, shift), 63)
	up, now := time.Duration(mono+r.uint(at, boot)), int64(mono+r.uint(at, realOff))
	switch {
	case r.err != nil:
		return nil, fmt.Errorf("the time: %w", r.err)
	case up <= 0 || up > maxUptime:
		return nil, fmt.Errorf("the time: the struct timekeeper at %v says that %d ns have gone: %w", at, int64(up), remora.ErrCorrupt)
	}
	return &Clock{Uptime: up, Now: time.Unix(0, now).UTC(), How: "the kernel's clock"}, nil
}

// Banner is what the kernel printed of itself when it started (linux_banner).
func (k *Kernel) Banner(ctx context.Context) (string, error) {
	at, err := k.symbol(ctx, "linux_banner")
	if err != nil {
		return "", err
	}
	text, err := k.mem.CString(ctx, at, 1024)
	return strings.TrimSuffix(text, "\n"), err
}

// Taint is why those who made a kernel may not want to hear of its troubles
// (Documentation/admin-guide/tainted-kernels.rst): a bit for each reason.
type Taint uint64

// Taint reads tainted_mask.
func (k *Kernel) Taint(ctx context.Context) (Taint, error) {
	at, err := k.symbol(ctx, "tainted_mask")
	if err != nil {
		return 0, err
	}
	n, err := k.mem.Uint64(ctx, at)
	return Taint(n), err
}

// taints are the letters and what they stand for, from bit 0.
func taints() []string {
	return []string{
		"P: a module that is not free", "F: a module was loaded by force", "S: a processor out of its specification",
		"R: a module was unloaded by force", "M: the hardware reported an error", "B: a bad page", "U: user space asked for it",
		"D: it died before", "A: an ACPI table was replaced", "W: a warning", "C: a module from staging", "I: a bug of the firmware",
		"O: a module from outside of the tree", "E: a module without a signature", "L: a soft lockup", "K: it was patched while it ran",
		"X: as the distribution has it", "T: built with randomised structures", "N: a test", "J: a firmware control was used",
	}
}

// Letters gives the letters in the order of the kernel's messages. What is not known is a
// question mark.
func (t Taint) Letters() string {
	var b strings.Builder
	for bit := range 64 {
		switch all := taints(); {
		case t>>bit&1 == 0:
		case bit < len(all):
			b.WriteByte(all[bit][0])
		default:
			b.WriteByte('?')
		}
	}
	return b.String()
}

func (t Taint) String() string {
	if t == 0 {
		return "not tainted"
	}
	var why []string
	for bit := range 64 {
		switch all := taints(); {
		case t>>bit&1 == 0:
		case bit < len(all):
			why = append(why, all[bit])
		default:
			why = append(why, fmt.Sprintf("?: bit %d", bit))
		}
	}
	return strings.Join(why, "; ")
}

// RAM is how much memory the kernel has to give away, in bytes.
func (k *Kernel) RAM(ctx context.Context) (uint64, error) {
	at, err := k.symbol(ctx, "_totalram_pages")
	if err != nil {
		return 0, err
	}
	n, err := k.mem.Uint64(ctx, at)
	return n * k.pageSize(ctx), err
}

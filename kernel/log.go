// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/remora-go/remora"
)

// LogRecord is a message in the kernel's log.
type LogRecord struct {
	Seq      uint64        // its number since boot
	Time     time.Duration // since boot, by the clock that the log uses
	Facility uint8         // as for syslog(3): 0 is the kernel
	Level    uint8         // 0 is an emergency, 7 is for debugging
	Caller   LogCaller
	Text     string // without the newline at its end; there may be some within
	// Subsystem and Device say what device it is about, as /dev/kmsg has it: "pci" and
	// "+pci:0000:00:02.0". They are empty for most.
	Subsystem, Device string
	// Lost says that the kernel has no text for the record, or not any more.
	Lost bool
	// Err says why the text could not be read. What came is in Text.
	Err error
}

// LogCaller is who wrote a record: a thread, or a processor in an interrupt
// (printk_caller_id in the kernel's kernel/printk/printk.c). It is 0 where that is not known.
type LogCaller uint32

// logCallerCPU is set in the number of a processor.
const logCallerCPU = 1 << 31

// CPU gives the processor, if it was one.
func (c LogCaller) CPU() (int, bool) { return int(c &^ logCallerCPU), c&logCallerCPU != 0 }

// String writes it as the kernel does: "T1" for a thread and "C1" for a processor.
func (c LogCaller) String() string {
	kind := "T"
	if c&logCallerCPU != 0 {
		kind = "C"
	}
	return kind + strconv.FormatUint(uint64(c&^logCallerCPU), 10)
}

// Log gives the records of the kernel's log from the oldest to the newest: those of the
// ring buffer of kernels since 5.10, or of the log of records since 3.5. VMCOREINFO says
// where they are, or the kernel's symbols and types. A record whose text is missing is
// given without it; an error ends the log.
func (k *Kernel) Log(ctx context.Context) iter.Seq2[LogRecord, error] {
	return func(yield func(LogRecord, error) bool) {
		if err := k.log(ctx, yield); err != nil {
			yield(LogRecord{}, err)
		}
	}
}

// log gives the records, and an error unless yield has ended it.
func (k *Kernel) log(ctx context.Context, yield func(LogRecord, error) bool) error {
	if _, err := k.Tables(ctx); err != nil { // else VMCOREINFO may be found on the way
		return err
	}
	if k.knows(ctx, "prb") {
		return k.logRing(ctx, yield)
	}
	if k.knows(ctx, "log_first_idx") {
		return k.logRecords(ctx, yield)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("%s: where the kernel's log is: neither VMCOREINFO nor the symbols have prb (Linux 5.10 and later) or log_first_idx (3.5 to 5.9): %w", k.info.Name, remora.ErrUnrecognized)
}

// knows says whether there is a symbol.
func (k *Kernel) knows(ctx context.Context, name string) bool {
	_, err := k.noted(ctx, name)
	return err == nil
}

// described fills fields in from VMCOREINFO, which gives offsets alone: their sizes are there
// before. Where a key is missing all of them come from the kernel's types. A member that
// may be missing, and is, has no size then.
func (k *Kernel) described(ctx context.Context, all ...wanted) error {
	offset := func(w wanted) (uint64, bool) {
		off, ok := k.VMCoreInfo().Value("OFFSET(" + w.member + ")")
		return off, ok && off < maxOffset
	}
	for _, w := range all {
		if _, ok := offset(w); ok || w.optional {
			continue
		}
		types, err := k.Types(ctx)
		if err != nil {
			return fmt.Errorf("%s: VMCOREINFO lacks the offset of %s, and there are no types: %w", k.info.Name, w.member, err)
		}
		return types.fields(ctx, all...)
	}
	for _, w := range all {
		if off, ok := offset(w); ok {
			w.into.off = off
		} else {
			*w.into = field{}
		}
	}
	return nil
}

// maxOffset is what no offset in a structure of the log reaches.
const maxOffset = 1 << 16

// sized gives the size of a structure, from VMCOREINFO or from the types.
func (k *Kernel) sized(ctx context.Context, name string) (uint64, error) {
	n, ok := k.VMCoreInfo().Value("SIZE(" + name + ")")
	if !ok {
		types, err := k.Types(ctx)
		if err != nil {
			return 0, fmt.Errorf("%s: VMCOREINFO lacks the size of %s, and there are no types: %w", k.info.Name, name, err)
		}
		if n, err = types.size(ctx, name); err != nil {
			return 0, err
		}
	}
	if n == 0 || n > maxOffset {
		return 0, fmt.Errorf("%s: a struct %s of %d bytes: %w", k.info.Name, name, n, remora.ErrCorrupt)
	}
	return n, nil
}

// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/remora-go/remora"
)

// initTask gives the address of the first task. A kernel without symbols for its data
// (CONFIG_KALLSYMS_ALL=n) has it in its image, where its name is looked for.
func (k *Kernel) initTask(ctx context.Context, f *taskFields) (remora.Addr, error) {
	at, why := k.symbol(ctx, "init_task")
	if why == nil || ctx.Err() != nil {
		return at, why
	}
	stext, err := k.noted(ctx, "_stext")
	if err != nil {
		return 0, fmt.Errorf("%w; it was not looked for in the kernel's image, as there is no _stext: %w", why, err)
	}
	for _, p := range k.imageAt(ctx, stext) {
		if at, ok := findInit(ctx, k.mem, f, remora.Range{Start: p.Virt, Size: p.Size}); ok {
			return at, nil
		}
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return 0, fmt.Errorf("%w; nor is there a first task in the kernel's image", why)
}

// findInit looks for the task in a range of the kernel's image: a struct task_struct of the
// name "swapper", with the number 0, that is its own parent and is the head of the list of
// processes.
func findInit(ctx context.Context, mem *remora.Memory, f *taskFields, in remora.Range) (found remora.Addr, ok bool) {
	name := []byte("swapper")
	var w windows
	ok = w.over(ctx, mem, in, len(name)-1, func(at remora.Addr, b []byte) bool {
		for from := 0; ; from++ {
			i := bytes.Index(b[from:], name)
			if i < 0 {
				return false
			}
			from += i
			if found = at + remora.Addr(from) - remora.Addr(f.comm.off); isInit(ctx, mem, f, found) {
				return true
			}
		}
	})
	return found, ok
}

func isInit(ctx context.Context, mem *remora.Memory, f *taskFields, at remora.Addr) bool {
	if !isKernel(at) {
		return false
	}
	r := reader{ctx: ctx, mem: mem, order: binary.LittleEndian}
	link := at + remora.Addr(f.tasks.off)
	if r.uint(at, f.pid) != 0 || r.uint(at, f.tgid) != 0 || r.ptr(at, f.parent) != at {
		return false
	}
	next, prev := r.ptr(at, f.tasks.word(0)), r.ptr(at, f.tasks.word(1))
	return r.ptr(next, field{off: 8, size: 8}) == link && r.ptr(prev, field{size: 8}) == link && r.err == nil
}

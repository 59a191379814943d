// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"

	"github.com/remora-go/remora"
)

// maxStack is the largest kernel stack that there is (THREAD_SIZE, with KASAN).
const maxStack = 64 << 10

// stackPointers are what the stack pointer is called.
func stackPointers() []string { return []string{"rsp", "sp"} }

// addRegisters gives each processor its registers out of the hints. These come in the
// order of the notes in the image, in which one that was not saved has no place: where a
// stack pointer is in the stack of the task that a processor ran, that is the one.
func (k *Kernel) addRegisters(ctx context.Context, all []Processor) {
	if len(k.hints.CPUs) == 0 || len(all) == 0 {
		return
	}
	stacks := make([]remora.Addr, len(all))
	if tr, err := k.taskReader(ctx); err == nil {
		for i := range all {
			if t, err := tr.read(all[i].Current); err == nil {
				stacks[i] = t.Stack
			}
		}
	}
	matchRegisters(k.hints.CPUs, all, stacks)
}

// matchRegisters finds the processor of each set of registers.
func matchRegisters(from []CPU, all []Processor, stacks []remora.Addr) {
	placed := make([]bool, len(from))
	for n, c := range from {
		for _, name := range stackPointers() {
			sp, ok := c.Regs[name]
			for i := range all {
				if ok && all[i].Regs == nil && stacks[i] != 0 && remora.Addr(sp)-stacks[i] < maxStack {
					all[i].Regs, placed[n] = c.Regs, true
					break
				}
			}
		}
	}
	for n, c := range from {
		for i := range all {
			if !placed[n] && all[i].ID == c.Index && all[i].Regs == nil {
				all[i].Regs, placed[n] = c.Regs, true
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
)

// userTypes are the types of a kernel since 4.19, or before.
func userTypes(old bool) *testimage.BTF {
	b := &testimage.BTF{}
	u64, s32, ptr := b.Int("long unsigned int", 8, false), b.Int("int", 4, true), b.Pointer(0)
	b.Struct("mm_struct", 64, member("arg_start", u64, 8), member("arg_end", u64, 16), member("env_start", u64, 24), member("env_end", u64, 32))
	upid := b.Struct("upid", 16, member("nr", s32, 0), member("ns", ptr, 8))
	b.Struct("pid", 32, member("level", s32, 4), member("numbers", b.Array(upid, 1), 16))
	if old {
		link := b.Struct("pid_link", 24, member("node", b.Array(ptr, 2), 0), member("pid", ptr, 16))
		b.Struct("task_struct", 128, member("group_leader", ptr, 8), member("pids", b.Array(link, 3), 16))
		b.Struct("signal_struct", 64, member("other", u64, 0))
	} else {
		b.Struct("signal_struct", 64, member("pids", b.Array(ptr, 4), 16))
	}
	return b
}

func TestTaskUser(t *testing.T) {
	const at = remora.Addr(0xffff888000001000)
	for _, old := range []bool{false, true} {
		s := memtest.NewSparse(nil)
		store(t, s, at, make([]byte, 0x1000))
		m := image{t, s}
		task := &Task{Addr: at, PID: 77, MM: at + 0x100, signal: at + 0x200}
		for i := range remora.Addr(4) {
			m.word(at+0x108+8*i, 0x7fff0000+i*0x100)
		}
		m.put(at+0x310, le(4, 70))
		m.put(at+0x350, le(4, 60))
		if old {
			m.word(at+8, at+0x400)                // group_leader
			m.word(at+0x400+16+24*1+16, at+0x300) // PIDTYPE_PGID was 1
			m.word(at+0x400+16+24*2+16, at+0x340)
		} else {
			m.word(at+0x210+8*2, at+0x300)
			m.word(at+0x210+8*3, at+0x340)
		}
		k := knowing(t, s, userTypes(old), nil, "")
		want := TaskUser{Group: 70, Session: 60, ArgStart: 0x7fff0000, ArgEnd: 0x7fff0100, EnvStart: 0x7fff0200, EnvEnd: 0x7fff0300}
		if got, err := k.TaskUser(t.Context(), task); err != nil || *got != want {
			t.Errorf("old %v: %+v, %v", old, got, err)
		}
		task.MM = 0
		if got, err := k.TaskUser(t.Context(), task); err != nil || got.ArgStart != 0 || got.Group != 70 {
			t.Errorf("old %v, no memory: %+v, %v", old, got, err)
		}
		task.MM = at + 0x100000
		if got, err := k.TaskUser(t.Context(), task); got != nil || !errors.Is(err, remora.ErrUnmapped) {
			t.Errorf("old %v, lost memory: %+v, %v", old, got, err)
		}
	}
}

// TestLogAndModulesEndWithTheirContext wants the context's error, which is no answer that is
// kept.
func TestLogAndModulesEndWithTheirContext(t *testing.T) {
	w := newLogWriter(4, 10)
	w.add(sampleRecord(0, "text"))
	log := plainKernel(w.space(t), logInfo)
	mods := knowing(t, withModules(t, false), moduleTypes(false), fewSymbols{}, "NUMBER(MODULES_VADDR)=0xffffffffc0000000\nNUMBER(MODULES_END)=0xffffffffd0000000\n")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		for r, err := range log.Log(ended) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%+v, %v", r, err)
			}
		}
		for m, err := range mods.Modules(ended) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%+v, %v", m, err)
			}
		}
		for s, err := range mods.moduleSymbols(ended) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%+v, %v", s, err)
			}
		}
	}
	if all, err := collect(t, log); len(all) != 1 || err != nil {
		t.Errorf("%+v, %v", all, err)
	}
	if all, err := modulesOf(t, mods); len(all) != 2 || err != nil {
		t.Errorf("%d modules, %v", len(all), err)
	}
}

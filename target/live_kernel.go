// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/vmcore"
)

// liveName is the kernel that this program runs on.
const liveName = "kernel"

// openLive opens "kernel", and what is behind an @ of it.
func openLive(ctx context.Context, spec string, o *Options) (remora.Target, error) {
	name, view, at := strings.Cut(spec, "@")
	switch {
	case name != liveName:
		return nil, errNotThis
	case at && view != viewPhys && !allDigits(view):
		return nil, &SpecError{Spec: spec, Why: "behind the @ of a kernel is the number of a process, or phys"}
	}
	given, err := vmcoreinfo(o.VMCoreInfo)
	if err != nil {
		return nil, err
	}
	process := allDigits(view)
	img, err := vmcore.OpenKcore(&vmcore.KcoreOptions{Write: o.Write && !process})
	if err != nil {
		return nil, err
	}
	m := imageMachine(img, liveName, given, o)
	m.hints.BTF = "/sys/kernel/btf/vmlinux"
	t, err := m.view(ctx, view, o)
	if err != nil || !process || !o.Write {
		return t, err
	}
	return writeThroughProc(t.(*Process), o)
}

// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"

	"github.com/remora-go/remora"
)

// unameLen is the size of each string of struct new_utsname (include/uapi/linux/utsname.h).
const unameLen = 65

// Uname reads what uname(2) says in the first namespace: the names of the system, the
// node, the release, the version, the machine and the domain. VMCOREINFO says where.
func (k *Kernel) Uname(ctx context.Context) (names [6]string, err error) {
	if _, err := k.Tables(ctx); err != nil {
		return names, err
	}
	at, ok := k.VMCoreInfo().Symbol("init_uts_ns")
	off, known := k.VMCoreInfo().Value("OFFSET(uts_namespace.name)")
	if !ok || !known {
		return names, &remora.FormatError{File: "VMCOREINFO", Want: "SYMBOL(init_uts_ns) and OFFSET(uts_namespace.name)", Got: "none", Err: remora.ErrUnrecognized}
	}
	var b [len(names) * unameLen]byte
	if _, err := k.mem.ReadAt(ctx, b[:], at+remora.Addr(off)); err != nil {
		return names, err
	}
	for i := range names {
		name, _, _ := bytes.Cut(b[i*unameLen:(i+1)*unameLen], []byte{0})
		names[i] = string(name)
	}
	return names, nil
}

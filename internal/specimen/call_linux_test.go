// SPDX-License-Identifier: Apache-2.0

package specimen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// oneIovec is a struct iovec of this process.
func oneIovec(a remora.Addr, n uint32) []byte {
	if bits.UintSize == 32 {
		return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, uint32(a)), n)
	}
	return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, uint64(a)), uint64(n))
}

func TestVMCall(t *testing.T) {
	caller, target := start(t, nil), start(t, &Options{Seed: 3})
	desk, err := caller.Map(Touched, 1)
	if err != nil {
		t.Fatal(err)
	}
	there, err := target.Map(Touched, 1)
	if err != nil {
		t.Fatal(err)
	}
	call := VMCall{Pid: uint64(target.Pid()), Local: uint64(desk.Start), LocalCount: 1,
		Remote: uint64(desk.Start) + 64, RemoteCount: 1}
	stores := []Store{{desk.Start, oneIovec(desk.Start+1000, 100)}, {desk.Start + 64, oneIovec(there.Last()-9, 100)}}
	if n, errno, err := caller.VMCall(&call, stores...); n != 10 || errno != 0 || err != nil {
		t.Fatal(n, errno, err)
	}
	want := target.Contents(Touched, there)[there.Size-10:]
	want = append(want, caller.Contents(Touched, desk)[1010])
	got := make([]byte, len(want))
	if err := caller.Peek(got, desk.Start+1000); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %x, want %x (%v)", got, want, err)
	}
	call.Write = true
	if n, errno, err := caller.VMCall(&call, Store{desk.Start + 64, oneIovec(there.Start, 3)}); n != 3 || errno != 0 || err != nil {
		t.Fatal(n, errno, err)
	}
	if err := target.Peek(got[:4], there.Start); err != nil || !bytes.Equal(got[:3], want[:3]) || got[3] != target.Contents(Touched, there)[3] {
		t.Errorf("wrote %x, want %x (%v)", got[:4], want[:3], err)
	}
	call.Flags = 1
	if n, errno, err := caller.VMCall(&call); n != 0 || errno != linux.EINVAL || err != nil {
		t.Error(n, errno, err)
	}
	if _, _, err := caller.VMCall(&call, Store{desk.Last(), []byte{1, 2}}); !errors.Is(err, linux.EFAULT) {
		t.Errorf("a store into a hole: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package play

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
)

// XSys reads by golang.org/x/sys: unix.ProcessVMReadv as it stands. See ways for what it can
// be asked; for many ranges in one call there is also
//
//	vector PID RANGES    1,024 ranges a call, and on behind each that faults
func XSys() map[string]Verb {
	verbs := ways(func(pid int) (*way, error) {
		return &way{
			read: func(p []byte, a uint64) (int, error) {
				return unix.ProcessVMReadv(pid, []unix.Iovec{iovec(p)}, []unix.RemoteIovec{{Base: uintptr(a), Len: len(p)}}, 0)
			},
			write: func(p []byte, a uint64) (int, error) {
				return unix.ProcessVMWritev(pid, []unix.Iovec{iovec(p)}, []unix.RemoteIovec{{Base: uintptr(a), Len: len(p)}}, 0)
			},
			faults: func(err error) bool { return errors.Is(err, unix.EFAULT) },
		}, nil
	})
	verbs["vector"] = xsysVector
	return verbs
}

func iovec(p []byte) unix.Iovec {
	v := unix.Iovec{Base: &p[0]}
	v.SetLen(len(p))
	return v
}

func xsysVector(args []string) (*Work, error) {
	pid, segs, err := scattered(args)
	if err != nil {
		return nil, err
	}
	var local []unix.Iovec
	var remote []unix.RemoteIovec
	for _, s := range segs {
		local = append(local, iovec(s.Buf))
		remote = append(remote, unix.RemoteIovec{Base: uintptr(s.Addr), Len: len(s.Buf)})
	}
	return &Work{
		Do:     func() error { return xsysRead(pid, local, remote, segs) },
		Digest: func() (string, error) { return got(segs), nil },
	}, nil
}

// xsysRead reads the vectors, and says of each of segs what became of it.
func xsysRead(pid int, local []unix.Iovec, remote []unix.RemoteIovec, segs []remora.Seg) error {
	const most = 1024 // UIO_MAXIOV
	for i := 0; i < len(remote); {
		end := min(i+most, len(remote))
		n, err := unix.ProcessVMReadv(pid, local[i:end], remote[i:end], 0)
		if err != nil && !errors.Is(err, unix.EFAULT) {
			return err
		}
		for ; i < end && n >= remote[i].Len; i++ {
			n -= remote[i].Len
			segs[i].Err = nil
		}
		if i < end {
			segs[i].Err = unix.EFAULT
			i++
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package specimen

import (
	"errors"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// VMCall is process_vm_readv(2), or process_vm_writev(2), as registers hold it.
type VMCall struct {
	Write               bool
	Pid                 uint64
	Local, LocalCount   uint64 // the array of iovecs of the caller's side
	Remote, RemoteCount uint64
	Flags               uint64
}

// Store is what a specimen stores before it makes a call.
type Store struct {
	Addr remora.Addr
	Data []byte
}

// VMCall has the specimen store, one after another, what it is given, and then make a
// call. It gives the bytes moved, or the error number of the call; err is for stores
// that it may not make, and then there was no call. No address that the call gets to
// may be in memory that the specimen uses for itself: Map gives none such.
func (s *Specimen) VMCall(c *VMCall, stores ...Store) (n uint64, errno linux.Errno, err error) {
	var write uint64
	if c.Write {
		write = 1
	}
	args := append(make([]uint64, 0, callArgs+2*len(stores)), write,
		c.Pid, c.Local, c.LocalCount, c.Remote, c.RemoteCount, c.Flags)
	var data []byte
	for _, st := range stores {
		args = append(args, uint64(st.Addr), uint64(len(st.Data)))
		data = append(data, st.Data...)
	}
	r, err := s.ask(verbCall, data, args...)
	return r.value, linux.Errno(r.second), err
}

// callArgs is how many arguments of verbCall come before the stores.
const callArgs = 7

// called is verbCall.
func called(q *request) (reply, error) {
	if len(q.args) < callArgs || (len(q.args)-callArgs)%2 != 0 {
		return reply{}, errors.New("not a call")
	}
	data := q.data
	for at := q.args[callArgs:]; len(at) > 0; at = at[2:] {
		if at[1] > uint64(len(data)) {
			return reply{}, errors.New("a store without its bytes")
		}
		if err := touch(func() { copy(linux.BytesAt(at[0], int(at[1])), data) }); err != nil {
			return reply{}, err
		}
		data = data[at[1]:]
	}
	n, errno := linux.VMRaw(q.arg(0) != 0, q.arg(1), q.arg(2), q.arg(3), q.arg(4), q.arg(5), q.arg(6))
	return reply{value: uint64(n), second: uint64(errno)}, nil
}

// SPDX-License-Identifier: Apache-2.0

package specimen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/remora-go/remora/internal/sys/linux"
)

// verb is what a command asks for.
type verb uint64

const (
	verbMap verb = iota
	verbReset
	verbUnmap
	verbProtect
	verbDrop
	verbPageOut
	verbPeek
	verbPoke
	verbSum
	verbCall
	verbWaiter
	verbResolve
	verbRelease
	verbDumpable
	verbBecome
	verbExec
	verbThread
	verbEndLeader
	verbExit
)

var verbNames = [...]string{"map", "reset", "unmap", "protect", "drop", "page out", "peek", "poke", "sum", "call", "waiter",
	"resolve", "release", "set dumpable", "become", "exec", "thread", "end the first thread", "exit"}

func (v verb) String() string { return verbNames[v] }

// request is a command.
type request struct {
	verb verb
	args []uint64
	data []byte
}

// reply is the answer to one.
type reply struct {
	value, second uint64
	data          []byte
}

// wire carries commands and answers, each as a few numbers, in the byte order of the
// machine, and bytes.
type wire struct {
	r io.Reader
	w io.Writer
}

// maxData is more than any command or answer has in bytes.
const maxData = 1 << 30

func (w *wire) send(numbers []uint64, data []byte) error {
	msg := make([]byte, 0, 8*(len(numbers)+2)+len(data))
	msg = binary.NativeEndian.AppendUint64(msg, uint64(len(numbers)))
	msg = binary.NativeEndian.AppendUint64(msg, uint64(len(data)))
	for _, n := range numbers {
		msg = binary.NativeEndian.AppendUint64(msg, n)
	}
	_, err := w.w.Write(append(msg, data...))
	return err
}

func (w *wire) receive() (numbers []uint64, data []byte, err error) {
	var head [16]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return nil, nil, err
	}
	count, size := binary.NativeEndian.Uint64(head[:]), binary.NativeEndian.Uint64(head[8:])
	if count > maxData/8 || size > maxData {
		return nil, nil, errors.New("not a message")
	}
	body := make([]byte, 8*count+size)
	if _, err := io.ReadFull(w.r, body); err != nil {
		return nil, nil, err
	}
	for ; count > 0; count-- {
		numbers = append(numbers, binary.NativeEndian.Uint64(body))
		body = body[8:]
	}
	return numbers, body, nil
}

func (w *wire) command(v verb, data []byte, args ...uint64) error {
	return w.send(append([]uint64{uint64(v)}, args...), data)
}

// next gives the next command; io.EOF: there will be none.
func (w *wire) next() (request, error) {
	numbers, data, err := w.receive()
	if err != nil {
		return request{}, err
	}
	if len(numbers) == 0 || numbers[0] >= uint64(len(verbNames)) {
		return request{}, errors.New("not a command")
	}
	return request{verb(numbers[0]), numbers[1:], data}, nil
}

// failure is an error as it goes over the wire: what was tried, and the number.
type failure struct {
	what  string
	errno linux.Errno
}

func (f *failure) Error() string { return f.what + ": " + f.errno.Error() }
func (f *failure) Unwrap() error { return f.errno }

// fail gives a failure, or nil if there is none.
func fail(what string, errno linux.Errno) error {
	if errno == 0 {
		return nil
	}
	return &failure{what, errno}
}

func (w *wire) reply(r reply, err error) error {
	var f *failure
	switch {
	case err == nil:
		return w.send([]uint64{0, r.value, r.second}, r.data)
	case !errors.As(err, &f):
		f = &failure{err.Error(), linux.EIO}
	}
	return w.send([]uint64{uint64(f.errno), 0, 0}, []byte(f.what))
}

func (w *wire) answer() (reply, error) {
	numbers, data, err := w.receive()
	switch {
	case errors.Is(err, io.EOF):
		return reply{}, errors.New("it has ended")
	case err != nil:
		return reply{}, err
	case len(numbers) != 3:
		return reply{}, fmt.Errorf("an answer of %d numbers", len(numbers))
	case numbers[0] != 0:
		return reply{}, &failure{string(data), linux.Errno(numbers[0])}
	}
	return reply{numbers[1], numbers[2], data}, nil
}

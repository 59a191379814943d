// SPDX-License-Identifier: Apache-2.0

package specimen

import (
	"errors"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// serve is the specimen: it answers commands until there are no more.
func serve(seed uint64) error {
	h := &host{
		wire:   wire{r: os.NewFile(commandFD, "commands"), w: os.NewFile(answerFD, "answers")},
		memory: newMemory(seed),
	}
	if err := h.wire.reply(reply{}, nil); err != nil {
		return err
	}
	for {
		q, err := h.wire.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case q.verb == verbExit:
			os.Exit(0)
		}
		if err := h.wire.reply(h.do(&q)); err != nil {
			return err
		}
	}
}

// host is what a specimen has.
type host struct {
	wire   wire
	memory *memory
}

// arg gives an argument of a command, 0 if it is not there.
func (q *request) arg(i int) uint64 {
	if i < len(q.args) {
		return q.args[i]
	}
	return 0
}

func (h *host) do(q *request) (reply, error) {
	a, size := q.arg(0), q.arg(1)
	switch q.verb {
	case verbMap:
		return h.layout(q)
	case verbReset:
		return reply{}, h.memory.reset()
	case verbUnmap:
		return reply{}, fail("munmap", linux.UnmapAt(a, size))
	case verbProtect:
		return reply{}, fail("mprotect", linux.ProtectAt(a, size, prot(remora.Perm(q.arg(2)))))
	case verbDrop:
		return reply{}, fail("madvise", linux.Advise(a, size, linux.AdviseDontNeed))
	case verbPageOut:
		return reply{}, h.memory.pageOut(a, size)
	case verbPeek:
		data := make([]byte, min(size, maxData))
		return reply{data: data}, touch(func() { copy(data, linux.BytesAt(a, len(data))) })
	case verbPoke:
		return reply{}, touch(func() { copy(linux.BytesAt(a, len(q.data)), q.data) })
	case verbSum:
		var h uint64
		err := touch(func() { h = sum(linux.BytesAt(a, int(size))) })
		return reply{value: h}, err
	case verbCall:
		return called(q)
	case verbWaiter:
		return h.memory.waiter()
	case verbResolve:
		return reply{}, fail("UFFDIO_COPY", linux.UserFaultCopy(h.memory.fault, a, q.data))
	case verbRelease:
		return reply{}, fail("UFFDIO_UNREGISTER", linux.UserFaultUnregister(h.memory.fault, a, size))
	case verbDumpable:
		return reply{}, fail("PR_SET_DUMPABLE", linux.SetDumpable(a != 0))
	case verbBecome:
		return reply{}, fail("setresuid", linux.Become(int(q.arg(0)), int(q.arg(1))))
	case verbExec:
		return reply{}, fail("execve", linux.ExecSelf()) // else the new program replies
	case verbThread:
		return reply{value: uint64(idler())}, nil
	case verbEndLeader:
		return reply{}, endLeader()
	}
	return reply{}, errors.New("not a command")
}

func (h *host) layout(q *request) (reply, error) {
	if len(q.args)%2 == 0 {
		return reply{}, errors.New("a piece without a size")
	}
	var pieces []Piece
	for i := 1; i < len(q.args); i += 2 {
		pieces = append(pieces, Piece{Kind(q.args[i]), int(q.args[i+1])})
	}
	at, err := h.memory.layout(q.args[0], pieces)
	return reply{value: at}, err
}

// touch does what may fault, and gives EFAULT if it did.
func touch(f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			err = fail("access", linux.EFAULT)
		}
	}()
	f()
	return nil
}

// idler starts a thread that is not the first one and does nothing.
func idler() (tid int) {
	id := make(chan int)
	go func() {
		runtime.LockOSThread()
		if linux.ThreadID() == os.Getpid() {
			id <- idler() // on another thread, as this one is taken
			runtime.UnlockOSThread()
			return
		}
		id <- linux.ThreadID()
		select {}
	}()
	return <-id
}

// endLeader ends the first thread and nothing else. Goroutines that keep their
// threads use up the others until one of them is on it.
func endLeader() error {
	found, free := make(chan struct{}), make(chan struct{})
	defer close(free)
	leader := func() {
		runtime.LockOSThread()
		if linux.ThreadID() == os.Getpid() {
			close(found)
			linux.ExitThread()
		}
		<-free
		runtime.UnlockOSThread()
	}
	for waiting := true; waiting; {
		go leader()
		select {
		case <-found:
			waiting = false
		case <-time.After(time.Millisecond):
		}
	}
	for { // until it is a zombie
		text, err := os.ReadFile("/proc/self/stat")
		if err != nil {
			return err
		}
		if state := statState(text); state == 'Z' {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// statState gives the state letter in /proc/PID/stat.
func statState(text []byte) byte {
	for i := len(text) - 1; i >= 0; i-- {
		if text[i] == ')' && i+2 < len(text) {
			return text[i+2]
		}
	}
	return 0
}

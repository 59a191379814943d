// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"github.com/remora-go/remora/guest"
	"github.com/remora-go/remora/internal/sys/linux"
)

// watchdogVerb is the only argument of a process that guards a pause. It is in no list.
const watchdogVerb = "_let-run-on"

// stubWatchdogVerb is that of one that guards a guest behind a gdb stub; what it is to say
// there follows.
const stubWatchdogVerb = "_let-stub-run-on"

// The descriptors of such a process.
const (
	lifeFD = 3 // a pipe, whose other end the process that paused the guest has
	qmpFD  = 4 // the connection to QEMU, which that process has too
)

// watchdog starts a process that lets a guest run on when this one dies, in whatever way.
// QEMU listens to one client at a time, so it goes on with the connection of this one.
func watchdog(q *guest.QEMU) (done func() error, err error) {
	conn, err := q.Connection()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return startGuard(conn, watchdogVerb)
}

// startGuard starts this program again with a connection, and a pipe that tells it when
// this process dies.
func startGuard(conn *os.File, args ...string) (done func() error, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(program, args...)
	cmd.Args[0] = os.Args[0] // the name that it was called by may matter
	cmd.ExtraFiles = []*os.File{theirs, conn}
	cmd.SysProcAttr = linux.OwnSession() // Ctrl-C is not for it
	err = cmd.Start()
	linux.SetNonblocking(int(conn.Fd())) // Start and Fd have it block, and with it what it is a copy of
	if err != nil {
		ours.Close()
		return nil, err
	}
	return func() error {
		_, err := ours.Write([]byte{0})
		ours.Close()
		return errors.Join(err, cmd.Wait())
	}, nil
}

// orphaned gives the connection once the process that had it before has died; nil where
// that says that there is nothing to do.
func orphaned() (net.Conn, error) {
	signal.Ignore(os.Interrupt)
	life := os.NewFile(lifeFD, "pipe")
	if n, _ := life.Read(make([]byte, 1)); n == 1 {
		return nil, nil
	}
	conn, err := net.FileConn(os.NewFile(qmpFD, "connection"))
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(10 * time.Second))
}

// guard is what such a process does: it waits for the word that the guest runs again, and
// where the pipe ends without it, it says so to QEMU.
func guard() error {
	conn, err := orphaned()
	if conn == nil || err != nil {
		return err
	}
	defer conn.Close()
	// A process that was killed may have left half a message: QEMU drops what is before
	// a byte that no JSON has.
	const id = "remora-watchdog"
	if _, err := conn.Write([]byte("\xff\n" + `{"execute": "cont", "id": "` + id + `"}` + "\n")); err != nil {
		return err
	}
	for in := json.NewDecoder(conn); ; {
		var m struct{ ID any }
		if err := in.Decode(&m); err != nil {
			return fmt.Errorf("QEMU did not answer: %w", err)
		}
		if m.ID == id {
			return nil
		}
	}
}

// stubWatchdog starts a process that lets a guest behind a gdb stub run on when this one
// dies.
func stubWatchdog(s *guest.Stub) (done func() error, err error) {
	conn, err := s.Connection()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return startGuard(conn, stubWatchdogVerb, hex.EncodeToString(s.LastWords()))
}

// guardStub is what such a process does.
func guardStub(words string) error {
	b, err := hex.DecodeString(words)
	if err != nil {
		return err
	}
	conn, err := orphaned()
	if conn == nil || err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(b); err != nil {
		return err
	}
	// It must not fail to say what it was asked before, which nobody else reads any more.
	for in := make([]byte, 64<<10); ; {
		n, err := conn.Read(in)
		if bytes.Contains(in[:n], []byte("$OK#9a")) {
			err = conn.SetDeadline(time.Now().Add(guardRest))
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
	}
}

// guardRest is how long the last answers of a stub take.
const guardRest = 300 * time.Millisecond

// guarding does what the arguments of such a process say.
func guarding(args []string) error {
	switch {
	case args[0] == watchdogVerb && len(args) == 1:
		return guard()
	case len(args) == 2:
		return guardStub(args[1])
	}
	return errors.ErrUnsupported
}

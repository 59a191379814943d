// SPDX-License-Identifier: Apache-2.0

package cli

import (
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

// The descriptors of such a process.
const (
	lifeFD = 3 // a pipe, whose other end the process that paused the guest has
	qmpFD  = 4 // the connection to QEMU, which that process has too
)

// watchdog starts a process that lets a guest run on when this one dies, in whatever way.
// QEMU listens to one client at a time, so it goes on with the connection of this one.
func watchdog(q *guest.QEMU) (done func() error, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	conn, err := q.Connection()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(program, watchdogVerb)
	cmd.Args[0] = os.Args[0] // the name that it was called by may matter
	cmd.ExtraFiles = []*os.File{theirs, conn}
	cmd.SysProcAttr = linux.OwnSession() // Ctrl-C is not for it
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	return func() error {
		_, err := ours.Write([]byte{0})
		ours.Close()
		return errors.Join(err, cmd.Wait())
	}, nil
}

// guard is what such a process does: it waits for the word that the guest runs again, and
// where the pipe ends without it, it says so to QEMU.
func guard() error {
	signal.Ignore(os.Interrupt)
	life := os.NewFile(lifeFD, "pipe")
	if n, _ := life.Read(make([]byte, 1)); n == 1 {
		return nil
	}
	conn, err := net.FileConn(os.NewFile(qmpFD, "connection"))
	if err != nil {
		return err
	}
	defer conn.Close()
	// A process that was killed may have left half a message: QEMU drops what is before
	// a byte that no JSON has.
	const id = "remora-watchdog"
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
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

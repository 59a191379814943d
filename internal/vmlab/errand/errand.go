// SPDX-License-Identifier: Apache-2.0

// Package errand is what a laboratory guest is asked to do while it runs, as the host
// and the guest's agent both know it. A request lies at the beginning of the disk "ask",
// its answer at that of the disk "answer", each behind its length as 8 bytes,
// little-endian; the console says when there is one.
package errand

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Names of the disks, and their size in bytes.
const (
	Ask      = "ask"
	Answer   = "answer"
	DiskSize = 64 << 20
)

// Request is one thing to do.
type Request struct {
	Number int
	Do     Action
	Args   []string // a program and its arguments
	Env    []string // besides PATH
	UID    uint32   // whom Run and Start make the program; 0 is root
	Path   string   // of a file
	Data   []byte   // what to write, or the program's standard input
	PID    int      // of a program that was started
	Signal int
}

// Action is what to do.
type Action string

// The actions.
const (
	Run    Action = "run"    // a program to its end
	Start  Action = "start"  // a program in the background: its standard input stays open
	Tell   Action = "tell"   // give Data to one that was started
	Kill   Action = "kill"   // send a signal to one that was started
	Wait   Action = "wait"   // for the end of one that was started
	Output Action = "output" // what one that was started has printed
	Read   Action = "read"   // a file
	Write  Action = "write"  // to a file, which is made if it is not there
)

// Reply is what became of it.
type Reply struct {
	Number int
	Err    string // why it could not be done
	Stdout []byte // of a program; what is in a file
	Stderr []byte
	Exit   int // of a program; -1 if a signal ended it
	PID    int // of a program that was started
}

// Put writes a request or a reply to a disk.
func Put(w io.WriterAt, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > DiskSize-8 {
		return fmt.Errorf("%d bytes are too many for a disk of %d", len(b), DiskSize)
	}
	_, err = w.WriteAt(append(binary.LittleEndian.AppendUint64(nil, uint64(len(b))), b...), 0)
	return err
}

// Take reads one.
func Take(r io.ReaderAt, v any) error {
	head := make([]byte, 8)
	if _, err := r.ReadAt(head, 0); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint64(head)
	if n > DiskSize-8 {
		return fmt.Errorf("a length of %d bytes on a disk of %d", n, DiskSize)
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, 8); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

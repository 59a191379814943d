// SPDX-License-Identifier: Apache-2.0

package qmp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora/internal/qmp"
)

// listen gives a socket, and has serve speak with each client.
func listen(t *testing.T, serve func(*net.UnixConn)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "qmp")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c.(*net.UnixConn))
			c.Close()
		}
	}()
	return path
}

// TestSendFile sends a file with a command.
func TestSendFile(t *testing.T) {
	path := listen(t, func(c *net.UnixConn) {
		io.WriteString(c, greeting)
		b, oob := make([]byte, 4096), make([]byte, 64)
		for id := 1; id <= 2; id++ {
			_, n, _, _, err := c.ReadMsgUnix(b, oob)
			if err != nil {
				return
			}
			if n > 0 {
				m, _ := unix.ParseSocketControlMessage(oob[:n])
				fds, err := unix.ParseUnixRights(&m[0])
				if err != nil || len(fds) != 1 {
					t.Errorf("descriptors %v, %v", fds, err)
					return
				}
				f := os.NewFile(uintptr(fds[0]), "sent")
				io.WriteString(f, "through a socket")
				f.Close()
			}
			fmt.Fprintf(c, `{"return": {}, "id": %d}`+"\n", id)
		}
		io.Copy(io.Discard, c)
	})
	c, err := qmp.Dial(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Peer() != os.Getpid() {
		t.Errorf("the peer is %d, and this process %d", c.Peer(), os.Getpid())
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.ExecuteFile(t.Context(), f, "getfd", map[string]string{"fdname": "x"}, nil); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(f.Name()); string(b) != "through a socket" {
		t.Errorf("the file has %q, %v", b, err)
	}
	// Another descriptor, used as package os/exec does, does not keep Close waiting.
	dup, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	dup.Fd()
	dup.Close()
	c.Resume()
}

// TestNoSocket: what is no socket of the system can send no file.
func TestNoSocket(t *testing.T) {
	c := open(t, nil, func(q request) string { return fmt.Sprintf(`{"return": {}, "id": %d}`, q.ID) })
	if err := c.ExecuteFile(t.Context(), os.Stdin, "getfd", nil, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a file through a pipe: %v", err)
	}
	if err := c.Execute(t.Context(), "next", nil, nil); err != nil {
		t.Errorf("the next command: %v", err)
	}
	if _, err := c.File(); !errors.Is(err, errors.ErrUnsupported) || c.Peer() != 0 {
		t.Errorf("a descriptor of a pipe: %v", err)
	}
}

// TestSilent connects to a server that serves somebody else.
func TestSilent(t *testing.T) {
	end := make(chan struct{})
	path := listen(t, func(*net.UnixConn) { <-end })
	defer close(end)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := qmp.Dial(ctx, path, nil); !errors.Is(err, qmp.ErrSilent) || !strings.Contains(err.Error(), "another client") {
		t.Errorf("no greeting: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := qmp.Dial(ctx, path, nil); !errors.Is(err, context.Canceled) || errors.Is(err, qmp.ErrSilent) {
		t.Errorf("cancelled: %v", err)
	}
}

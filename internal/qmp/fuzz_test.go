// SPDX-License-Identifier: Apache-2.0

package qmp_test

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/remora-go/remora/internal/qmp"
)

// FuzzServer has a server say anything: every call ends.
func FuzzServer(f *testing.F) {
	const ok = `{"return": {}, "id": 1}` + "\n"
	for _, rest := range []string{"", ok, ok + `{"return": "text", "id": 2}`, ok + `{"error": {"class": "x", "desc": "y"}, "id": 2}`,
		ok + `{"event": "STOP", "data": {}, "timestamp": {"seconds": 1, "microseconds": 2}}`, ok + `{"return": 1, "id": -2}`,
		ok + `{"return": 1, "id": "2"}`, ok + `{"id": 2}`, ok + `[]`, ok + `{"QMP": null, "id": 2}{`} {
		f.Add(greeting + rest)
	}
	f.Fuzz(func(t *testing.T, says string) {
		here, there := net.Pipe()
		go io.Copy(io.Discard, there) // until there is closed
		go func() {
			io.WriteString(there, says)
			there.Close()
		}()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c, err := qmp.New(ctx, here, func(qmp.Event) {})
		if err != nil {
			return
		}
		var v any
		if err := c.Execute(ctx, "query-status", nil, &v); err == nil && v == nil {
			t.Log("an answer of nothing")
		}
		c.HMP(ctx, "info status")
		c.Close()
	})
}

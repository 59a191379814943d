// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
)

// Where /proc/PID/mem heeds protections (proc_mem.force_override=never, or ptrace) and
// another process traces the target, nothing gets past them: both are said.
func TestForceThatIsRefusedSaysWhy(t *testing.T) {
	s := specimentest.Start(t, nil)
	areas := layOut(t, s, specimen.Piece{Kind: specimen.ReadOnly, Pages: 1}, specimen.Piece{Kind: specimen.NoAccess, Pages: 1})
	tracer := openProcess(t, s.Pid(), nil)
	p := openProcess(t, s.Pid(), &Options{Write: true})
	p.forceOnce.Do(func() {}) // and so it may not
	resume, err := tracer.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer resume()
	for _, r := range areas {
		m := p.Memory().With(remora.Force)
		for act, access := range map[string]func() (int, error){
			"write": func() (int, error) { return m.WriteAt(t.Context(), []byte{1}, r.Start) },
			"read":  func() (int, error) { return m.ReadAt(t.Context(), make([]byte, 1), r.Start) },
		} {
			n, err := access()
			var denied *remora.AccessError
			if n != 0 || !errors.As(err, &denied) || !strings.Contains(denied.Reason, "proc_mem.force_override") ||
				!strings.Contains(denied.Reason, "traced already") || !strings.Contains(denied.Remedy, "proc_mem.force_override=always") ||
				!strings.HasPrefix(denied.Act, act) {
				t.Errorf("%s of %v: %d, %v", act, r.kind, n, err)
			}
		}
	}
}

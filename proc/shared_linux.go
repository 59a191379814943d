package proc

import "github.com/remora-go/remora"

type shares struct{}

func (t *shares) close()                                 {}
func (r *run) sharedOr(segs []remora.Seg) (int64, error) { return r.vector(segs) }

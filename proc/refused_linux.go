// SPDX-License-Identifier: Apache-2.0

package proc

import "github.com/remora-go/remora"

func (p *Process) refused(act string, err error) error {
	return &remora.AccessError{Target: p.name(), Act: act, Err: err}
}

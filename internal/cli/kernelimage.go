// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/remora-go/remora/target"
)

// openKernel opens a kernel image. who says what it is wanted for.
func openKernel(ctx context.Context, env *Env, spec, who string, o *target.Options) (*target.Kernel, error) {
	t, err := env.Open(ctx, spec, o)
	if err != nil {
		return nil, err
	}
	k, ok := t.(*target.Kernel)
	if !ok {
		t.Close()
		return nil, fmt.Errorf("%s: %s, and its name has no @phys: %w", spec, who, errors.ErrUnsupported)
	}
	return k, nil
}

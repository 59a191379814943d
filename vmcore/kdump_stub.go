// SPDX-License-Identifier: Apache-2.0

package vmcore

import "errors"

func openKdump(srcs []*source, _ *Options) (format, error) {
	return nil, srcs[0].bad(0, errors.ErrUnsupported, anImage, "the format kdump")
}

func unwrapFlat(s *source) (*source, error) {
	return nil, s.bad(0, errors.ErrUnsupported, anImage, "a flattened stream")
}

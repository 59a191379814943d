// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package play

import "errors"

func place(string) (string, error) { return "", errors.ErrUnsupported }

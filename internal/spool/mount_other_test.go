//go:build !linux

package spool

import "errors"

func mountSmall(string, string) (unmount func(), err error) { return nil, errors.ErrUnsupported }

//go:build !linux || (!amd64 && !arm64)

package replay

import (
	"context"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

// resolve does nothing: net.Dialer asks for each connection.
func (*RawSender) resolve(context.Context) {}

// loop exists on Linux only; elsewhere every run has workers.
type loop struct {
	rec    *stats.Recorder
	err    error
	hungry interface {
		Swap(bool) bool
	}
}

func newLoop(*engine, func() (*preparer, *walk)) (*loop, error) { return nil, nil } //nolint:nilnil // there is none

func (*loop) run(context.Context, chan<- struct{}) {}
func (*loop) stop()                                {}
func (*loop) wake()                                {}
func (*loop) close()                               {}

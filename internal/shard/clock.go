package shard

import (
	"context"
	"time"

	"github.com/cirrusbench/cirrusbench/internal/store"
)

// Clock is how far the store's clock is ahead of this machine's, as far as can be told: somewhere from Low to High.
type Clock struct {
	Known  bool    `json:"clock_known"`
	LowMS  float64 `json:"clock_low_ms"`
	HighMS float64 `json:"clock_high_ms"`
}

// offset is what is to be added to this machine's time to get the store's: nothing, unless the measurement shows that
// there is a difference.
func (c Clock) offset() time.Duration {
	if !c.Known || c.LowMS <= 0 && c.HighMS >= 0 {
		return 0
	}
	return time.Duration((c.LowMS + c.HighMS) / 2 * float64(time.Millisecond))
}

// margin is how far off offset may be.
func (c Clock) margin() time.Duration {
	return time.Duration((c.HighMS - c.LowMS) / 2 * float64(time.Millisecond))
}

// OffsetMS and ErrorMS are the offset that is corrected for and its margin.
func (c Clock) OffsetMS() float64 { return float64(c.offset()) / 1e6 }

// ErrorMS is the margin of [Clock.OffsetMS].
func (c Clock) ErrorMS() float64 { return float64(c.margin()) / 1e6 }

// The store's clock is read several times at different phases of its second: S3 tells whole seconds only, and where
// they change narrows the offset down.
const (
	clockReads = 8
	clockPause = 125 * time.Millisecond
)

// readClock compares the two clocks. A store without one is not an error.
func readClock(ctx context.Context, s store.Store) (Clock, error) {
	teller, ok := s.(store.Clock)
	if !ok {
		return Clock{}, nil
	}
	var c Clock
	for i := range clockReads {
		before := time.Now()
		at, resolution, err := teller.Clock(ctx)
		after := time.Now()
		if err != nil {
			return Clock{}, err
		}
		// The store read its clock at some moment in between, and cut the time down to its resolution.
		low, high := ms(at.Sub(after)), ms(at.Add(resolution).Sub(before))
		switch {
		case !c.Known:
			c = Clock{true, low, high}
		case max(c.LowMS, low) <= min(c.HighMS, high):
			c.LowMS, c.HighMS = max(c.LowMS, low), min(c.HighMS, high)
		default:
			c = Clock{true, low, high} // a clock was set meanwhile: the last reading counts
		}
		if resolution < 100*time.Millisecond && i >= 2 {
			break // fine enough: more reads would not tell more
		}
		if i < clockReads-1 {
			if err := sleep(ctx, clockPause); err != nil {
				return Clock{}, err
			}
		}
	}
	return c, nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

package mqgrpc

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second
)

// pauses double from one to the next, with some chance in each: those who failed together come back apart.
type pauses struct{ failures int }

// reset begins anew: an attempt succeeded.
func (p *pauses) reset() { p.failures = 0 }

// next is the pause after a failure.
func (p *pauses) next() time.Duration {
	pause := min(firstPause<<min(p.failures, 16), longestPause)
	p.failures++
	return pause/2 + rand.N(pause/2+1)
}

// wait waits for the next pause to pass, or for ctx. Returns whether to go on.
func (p *pauses) wait(ctx context.Context) bool {
	timer := time.NewTimer(p.next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

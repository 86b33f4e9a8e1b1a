// Command gate-delay is a remote-write receiver of known slowness: it takes any request and answers after a scripted
// delay. The delays are the quantiles of a lognormal distribution in shuffled order, so that any -cycle requests in a
// row have exactly that distribution, and its percentiles are known by construction. With -random they are drawn
// independently, which makes every measurement differ by chance, as a real server's do.
//
// Two of them, of which one has another -scale, are what tools/gate-live.sh holds the gate to.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// script says how long the answer to each request is held back.
type script struct {
	median time.Duration
	sigma  float64 // standard deviation of the logarithm
	scale  float64 // factor on every delay
	random bool
	order  []int // a permutation: the n-th request has the quantile order[n % len(order)]
	next   atomic.Int64
}

func newScript(median time.Duration, sigma, scale float64, cycle int, seed uint64, random bool) (*script, error) {
	if median <= 0 || !(sigma >= 0 && sigma <= 3) || !(scale > 0 && scale <= 100) || cycle < 1 || cycle > 1_000_000 {
		return nil, errors.New("median, sigma, scale and cycle must be positive and not extreme")
	}
	rnd := rand.New(rand.NewPCG(seed, 1))
	return &script{median: median, sigma: sigma, scale: scale, random: random, order: rnd.Perm(cycle)}, nil
}

// quantile is the delay that a share of p of the requests does not exceed.
func (s *script) quantile(p float64) time.Duration {
	z := math.Sqrt2 * math.Erfinv(2*p-1)
	return time.Duration(float64(s.median) * s.scale * math.Exp(s.sigma*z))
}

// delay is the one of the next request.
func (s *script) delay() time.Duration {
	if s.random {
		return time.Duration(float64(s.median) * s.scale * math.Exp(s.sigma*rand.NormFloat64()))
	}
	n := len(s.order)
	i := s.order[int((s.next.Add(1)-1)%int64(n))]
	return s.quantile((float64(i) + 0.5) / float64(n))
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	_, _ = io.Copy(io.Discard, r.Body) // a sender that goes away is no concern of ours
	if left := s.delay() - time.Since(began); left > 0 {
		time.Sleep(left)
	}
	w.WriteHeader(http.StatusNoContent)
}

func run(ctx context.Context, w io.Writer, args []string) error {
	fs := flag.NewFlagSet("gate-delay", flag.ContinueOnError)
	listen := fs.String("listen", "127.0.0.1:0", "address to listen on")
	median := fs.Duration("median", 6*time.Millisecond, "median of the delays")
	sigma := fs.Float64("sigma", 0.4, "standard deviation of the delays' logarithm")
	scale := fs.Float64("scale", 1, "factor on every delay")
	cycle := fs.Int("cycle", 1000, "requests after which the delays repeat")
	seed := fs.Uint64("seed", 1, "of the order of the delays")
	random := fs.Bool("random", false, "draw each delay independently")
	if err := fs.Parse(args); err != nil {
		return err
	}
	s, err := newScript(*median, *sigma, *scale, *cycle, *seed, *random)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "p50 %.3f ms and p99 %.3f ms by construction; listening on http://%s\n",
		s.quantile(0.5).Seconds()*1e3, s.quantile(0.99).Seconds()*1e3, l.Addr()); err != nil {
		return errors.Join(err, l.Close())
	}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		done <- srv.Close() // who measures has ended before it stops us
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stderr, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gate-delay:", err)
		os.Exit(1)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cirrusbench/cirrusbench/internal/lambdahost"
)

type lambdaHostOptions struct {
	listen, out, cgroup  string
	environments, memory int
	timeout, cpuPeriod   time.Duration
	holdCPU              bool
	env                  []string
}

func newLambdaHostCommand(e *env) *cobra.Command {
	o := lambdaHostOptions{}
	cmd := &cobra.Command{
		Use:   "lambda-host BOOTSTRAP [ARG…]",
		Short: "Run a Lambda function on this machine and log what it would be billed",
		Long: `Run the bootstrap of a Lambda function on this machine, without an account: speak the Runtime API with
it in up to --environments processes, and write the START, END and REPORT lines that Lambda writes to
stdout, or to --out. 'cirrusbench invocations' and 'cirrusbench forecast' read them.

In front is an HTTP API: every request becomes an event of payload format 2.0, as behind API Gateway or
a function URL, so that 'cirrusbench replay --target' works against it. When all environments are busy
the answer is 429; POST ` + lambdahost.PathInvoke + ` takes an event as it is.
That is Lambda's Invoke API: with AWS_ENDPOINT_URL_LAMBDA the AWS SDKs, and 'replay --target lambda://NAME', invoke the function
here, whatever NAME is.

'make lambda' builds the reference server as such a bootstrap, bin/bootstrap. The function inherits the
environment, and --env adds to it; secrets belong into the environment. --hold-cpu gives each after its start, the CPU time of its memory size (MB / 1769 of a CPU) by a cgroup quota, which
needs root or a delegated cgroup. At 128 MB that is 1.45 ms every 20 ms: what needs more waits. Without
it durations are those of a whole CPU. The CPU time per invocation is printed at the end; it is what
decides the bill of a small function, and does not depend on the quota's period, which AWS does not publish.

SIGTERM or Ctrl-C lets invocations under way finish; a second one kills.

` + exitCodes(exitOK, exitFailed, exitUsage),
		Example: `  cirrusbench lambda-host bin/bootstrap --env CIRRUSBENCH_STORE=./data --out reports.log
  cirrusbench replay --target http://127.0.0.1:9202/api/v1/write --rate 20 --duration 10s
  cirrusbench invocations reports.log`,
		Args: argsRange(1, -1, "the bootstrap"),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.drains.Store(true)
			return runLambdaHost(cmd.Context(), e, &o, args)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(true)
	f.StringVar(&o.listen, "listen", "127.0.0.1:9202", "address to listen on; port 0 takes a free one and prints it")
	f.StringVar(&o.out, "out", "", "file to append the log to, instead of stdout")
	f.IntVar(&o.environments, "environments", lambdahost.DefaultEnvironments, "how many invocations may run at once; above it 429")
	f.IntVar(&o.memory, "memory", lambdahost.DefaultMemoryMB, "memory size in MB; it is reported, and --hold-cpu goes by it")
	f.DurationVar(&o.timeout, "timeout", lambdahost.DefaultTimeout, "end an invocation that takes longer")
	f.BoolVar(&o.holdCPU, "hold-cpu", false, "hold the CPU share of the memory size")
	f.DurationVar(&o.cpuPeriod, "cpu-period", lambdahost.DefaultCPUPeriod, "period of the quota")
	f.StringArrayVar(&o.env, "env", nil, "NAME=value for the function's environment; may be given several times")
	f.StringVar(&o.cgroup, "cgroup", "", "cgroup directory to work under (default the root of the hierarchy)")
	return cmd
}

// findBootstrap returns the absolute path of a program, which may lie in the working directory.
func findBootstrap(name string) (string, error) {
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrDot) || err == nil {
		return filepath.Abs(path)
	}
	if info, statErr := os.Stat(name); statErr == nil { // LookPath speaks of $PATH only
		what := "may not be executed"
		if info.IsDir() {
			what = "is a directory"
		}
		return "", withHint(fmt.Errorf("finding the bootstrap: %s %s", name, what), "give a program; 'make lambda' builds bin/bootstrap")
	}
	return "", withHint(fmt.Errorf("finding the bootstrap: %w", err), "build one with 'make lambda' and give its path, bin/bootstrap")
}

func runLambdaHost(ctx context.Context, e *env, o *lambdaHostOptions, command []string) (err error) {
	if err := checkListen(ctx, o.listen); err != nil {
		return err
	}
	path, err := findBootstrap(command[0])
	if err != nil {
		return err
	}
	for _, kv := range o.env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			return usagef("write --env CIRRUSBENCH_STORE=./data", "--env %q is not NAME=value", kv)
		}
	}
	log := e.out
	if o.out != "" {
		f, err := os.OpenFile(o.out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return withHint(err, writeHint(o.out))
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		log = f
	}
	host, err := lambdahost.New(lambdahost.Config{
		Command: append([]string{path}, command[1:]...), Env: append(os.Environ(), o.env...), Environments: o.environments, MemoryMB: o.memory,
		Timeout: o.timeout, HoldCPU: o.holdCPU, CPUPeriod: o.cpuPeriod, Cgroup: o.cgroup, Log: log,
	})
	if _, ok := errors.AsType[*lambdahost.CPUError](err); ok {
		return err
	}
	if err != nil {
		return usagef("run 'cirrusbench lambda-host --help' for the limits", "%v", err)
	}
	err = serveLambdaHost(ctx, e.err, host, o)
	if closed := host.Close(); closed != nil {
		err = errors.Join(err, closed)
	}
	summariseHost(e.err, host.Stats())
	return err
}

// serveLambdaHost answers requests until ctx ends, then lets those under way finish.
func serveLambdaHost(ctx context.Context, say io.Writer, host *lambdahost.Host, o *lambdaHostOptions) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return withHint(fmt.Errorf("listening on %s: %w", o.listen, err), "use --listen 127.0.0.1:0 for a free port")
	}
	if _, err := fmt.Fprintf(say, "listening on http://%s\n", l.Addr()); err != nil {
		return errors.Join(err, l.Close())
	}
	srv := &http.Server{Handler: host.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.timeout)
	defer cancel()
	err = srv.Shutdown(deadline)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests were still under way: %w", err), srv.Close())
	}
	if closed := <-failed; !errors.Is(closed, http.ErrServerClosed) { // Serve has returned: nothing is left running
		err = errors.Join(err, closed)
	}
	return err
}

func summariseHost(w io.Writer, s lambdahost.Stats) {
	if s.Invocations == 0 {
		sayf(w, "no invocation, %d throttled", s.Throttled)
		return
	}
	parts := []string{
		fmt.Sprintf("%d invocations, %d of them cold", s.Invocations, s.Cold),
		fmt.Sprintf("%.3f ms of CPU time each", s.CPU.Seconds()*1e3/float64(s.Invocations)),
		fmt.Sprintf("at most %d MB of memory", s.MaxMemoryMB),
		fmt.Sprintf("%d failed, %d throttled", s.Failed, s.Throttled),
	}
	sayf(w, "%s", strings.Join(parts, "; "))
}

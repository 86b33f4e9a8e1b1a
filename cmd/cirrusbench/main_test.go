package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cirrusbench/cirrusbench/internal/stats"
)

var update = flag.Bool("update", false, "rewrite golden files and scripts")

// TestMain lets the test binary be the program, so that scripts drive the real main in a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"cirrusbench": main,
		// The program with latencies that are a function of the plan, so that runs can be compared bucket by bucket.
		"cirrusbench-fake": func() {
			e := processEnv()
			e.observe = fakeObservation
			os.Exit(run(os.Args[1:], e))
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			root, err := filepath.Abs(filepath.Join("..", ".."))
			if err != nil {
				return err
			}
			e.Setenv("FIXTURES", filepath.Join(root, "fixtures"))
			// A user's environment must not reach the flags under test.
			for _, kv := range os.Environ() {
				if name, _, _ := cutEnv(kv); len(name) > 12 && name[:12] == "CIRRUSBENCH_" {
					e.Setenv(name, "")
				}
			}
			e.Values[runningKey{}] = map[string]*process{}
			return nil
		},
		Cmds: commands(),
	})
}

// fakeObservation gives plan entry n the latency, service time and outcome that follow from n: mostly some milliseconds,
// now and then a second, and a failure in 41.
func fakeObservation(n int, o *stats.Observation) {
	took := time.Duration(1000+(n*7919)%5000) * time.Microsecond
	if n%29 == 0 {
		took += time.Second
	}
	o.Started = o.Intended + time.Duration(n%17)*time.Microsecond
	o.Done = o.Intended + took
	if n%41 == 40 {
		o.Outcome, o.Status, o.ErrorClass, o.ErrorExample = stats.Failed, 503, "fake", "a failure that the test made up"
		o.SamplesWritten = 0
	}
}

package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite golden files and scripts")

// TestMain lets the test binary be the program, so that scripts drive the real main in a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"cirrusbench": main,
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

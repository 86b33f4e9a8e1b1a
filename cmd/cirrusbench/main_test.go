package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
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

// TestScriptsRunToTheirEnd keeps testscript's own stop out, which ends a script early and calls it passed.
func TestScriptsRunToTheirEnd(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "script", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(b), "\n") {
			if strings.HasPrefix(line, "stop") {
				t.Errorf("%s:%d: %q ends the script; to end a server write shutdown", file, n+1, line)
			}
		}
	}
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

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.yaml.in/yaml/v4"
)

// TestK8sJobRuns holds the arguments of the Kubernetes manifest against the command that they are for, and its number of
// shards against the number of pods. The module in deploy/k8s/testdata/validate checks the manifest as Kubernetes reads it.
func TestK8sJobRuns(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "k8s", "job.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	type manifest struct {
		Kind string
		Spec struct {
			Completions int
			Template    struct {
				Spec struct {
					Containers []struct {
						Name string
						Args []string
					}
				}
			}
		}
	}
	var job manifest
	documents := 0
	for d := yaml.NewDecoder(strings.NewReader(string(data))); ; documents++ {
		var m manifest
		err := d.Decode(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		job = m
	}
	if documents != 1 || job.Kind != "Job" {
		t.Fatalf("%d documents, the last a %s: the manifest is to be one Job, without roles or anything else", documents, job.Kind)
	}
	args := job.Spec.Template.Spec.Containers[0].Args
	if len(args) < 3 || args[0] != "replay" {
		t.Fatalf("args %q", args)
	}
	if want := fmt.Sprintf("--shard=/%d", job.Spec.Completions); !slices.Contains(args, want) {
		t.Errorf("%d completions, and no %s in %q", job.Spec.Completions, want, args)
	}
	// As a pod would begin. A store that nobody shares is the one thing wrong, for all that is wrong is said at once.
	store := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "--object-store=s3://") })
	if store < 0 {
		t.Fatalf("no object store in %q", args)
	}
	args[store] = "--object-store=null:"
	var said bytes.Buffer
	code := run(args, &env{in: strings.NewReader(""), out: io.Discard, err: &said, drains: new(atomic.Bool), getenv: func(name string) string {
		if name == "JOB_COMPLETION_INDEX" {
			return "3"
		}
		return ""
	}})
	if first, rest, _ := strings.Cut(said.String(), "\n"); code != exitUsage || !strings.Contains(first, "in null: no other process would find anything") || !strings.HasPrefix(rest, "cirrusbench: hint:") {
		t.Errorf("exit code %d: %s", code, &said)
	}
}

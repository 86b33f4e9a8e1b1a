package lambdahost

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCPUMount(t *testing.T) {
	const (
		hybrid = `30 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw
33 30 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
34 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:8 - cgroup cgroup rw,cpu,cpuacct
`
		unified = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	)
	yes, no := func(string) bool { return true }, func(string) bool { return false }
	for _, tc := range []struct {
		name, mounts, want string
		hasCPU             func(string) bool
	}{
		{"version 2", unified, "/sys/fs/cgroup", yes},
		{"version 2 without the controller", unified, "", no},
		{"both, controller in 1", hybrid, "/sys/fs/cgroup/cpu,cpuacct", no},
		{"both, controller in 2", hybrid, "/sys/fs/cgroup/unified", yes},
		{"nonsense", "a b\n - \n1 2 3 4 5 - cgroup2\n", "", yes},
	} {
		if got := cpuMount([]byte(tc.mounts), tc.hasCPU); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// What is written where, in a directory that looks like a hierarchy of version 2.
func TestCgroupV2Files(t *testing.T) {
	root := t.TempDir()
	write := func(dir, name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(root, "cgroup.controllers", "cpuset cpu io\n")
	g, err := openCPU(root, CPUShare(128), 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	m, err := g.join(0, 4711)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		filepath.Join(root, "cgroup.subtree_control"):  "+cpu",
		filepath.Join(g.dir, "cgroup.subtree_control"): "+cpu",
		filepath.Join(m.dir, "cpu.max"):                "1447 20000",
		filepath.Join(m.dir, "cgroup.procs"):           "4711",
	} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", file, got, err, want)
		}
	}
}

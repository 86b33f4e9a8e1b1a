package lambdahost

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cpuGroup is the place in the cgroup hierarchy where each environment gets a cgroup.
type cpuGroup struct {
	dir    string // of this host
	v1     bool
	quota  time.Duration
	period time.Duration
}

// minQuota is the least that the kernel accepts.
const minQuota = time.Millisecond

const cpuHint = "run it as root on a machine whose cgroups may be written, give a delegated one by --cgroup, or leave out --hold-cpu"

// openCPU makes a cgroup for the host under parent, or at the root of the hierarchy that
// has the CPU controller: version 2, else version 1.
func openCPU(parent string, share float64, period time.Duration) (*cpuGroup, error) {
	fail := func(problem string, err error) (*cpuGroup, error) {
		return nil, &CPUError{Problem: problem, Err: err, hint: cpuHint}
	}
	g := &cpuGroup{quota: time.Duration(share * float64(period)), period: period}
	if g.quota < minQuota {
		return nil, &CPUError{
			Problem: fmt.Sprintf("the share of %s is %s, and the kernel takes no less than %s", period, g.quota, minQuota),
			hint:    "take a longer period",
		}
	}
	if parent == "" {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return fail("the mounts cannot be read", err)
		}
		if parent = cpuMount(mounts, hasCPU); parent == "" {
			return fail("no cgroup hierarchy with the CPU controller is mounted", nil)
		}
	}
	if !hasCPU(parent) {
		if _, err := os.Stat(filepath.Join(parent, "cpu.cfs_quota_us")); err != nil {
			return fail(parent+" has no CPU controller", nil)
		}
		g.v1 = true
	}
	if !g.v1 {
		if err := enableCPU(parent); err != nil {
			return fail("the CPU controller cannot be enabled in "+parent, err)
		}
	}
	var err error
	if g.dir, err = os.MkdirTemp(parent, "cirrusbench-"); err != nil {
		return fail("no cgroup can be made", err)
	}
	if !g.v1 {
		if err := enableCPU(g.dir); err != nil {
			return fail("the CPU controller cannot be enabled in "+g.dir, errors.Join(err, os.Remove(g.dir)))
		}
	}
	return g, nil
}

// cpuMount finds the hierarchy with the CPU controller in /proc/self/mountinfo.
func cpuMount(mountinfo []byte, hasCPU func(dir string) bool) string {
	v1 := ""
	for lines := bufio.NewScanner(bytes.NewReader(mountinfo)); lines.Scan(); {
		// 36 35 98:0 /root /mnt opts… - type source superopts
		before, after, ok := strings.Cut(lines.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 5 || len(tail) < 3 {
			continue
		}
		switch dir := head[4]; {
		case tail[0] == "cgroup2" && hasCPU(dir):
			return dir
		case tail[0] == "cgroup" && slices.Contains(strings.Split(tail[2], ","), "cpu") && v1 == "":
			v1 = dir
		}
	}
	return v1
}

// hasCPU says whether dir is in a hierarchy of version 2 and has the CPU controller.
func hasCPU(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(b)), "cpu")
}

// enableCPU lets the children of dir have the CPU controller.
func enableCPU(dir string) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	if b, err := os.ReadFile(file); err == nil && slices.Contains(strings.Fields(string(b)), "cpu") {
		return nil
	}
	return os.WriteFile(file, []byte("+cpu"), 0o644)
}

// join puts a process into a cgroup of its own.
func (g *cpuGroup) join(n, pid int) (*cpuMember, error) {
	m := &cpuMember{dir: filepath.Join(g.dir, strconv.Itoa(n))}
	if err := os.Mkdir(m.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, &CPUError{Problem: "no cgroup can be made", Err: err, hint: cpuHint}
	}
	quota, period := strconv.FormatInt(g.quota.Microseconds(), 10), strconv.FormatInt(g.period.Microseconds(), 10)
	writes := [][2]string{{"cpu.max", quota + " " + period}, {"cgroup.procs", strconv.Itoa(pid)}}
	if g.v1 {
		writes = [][2]string{{"cpu.cfs_period_us", period}, {"cpu.cfs_quota_us", quota}, {"cgroup.procs", strconv.Itoa(pid)}}
	}
	for _, w := range writes {
		if err := os.WriteFile(filepath.Join(m.dir, w[0]), []byte(w[1]), 0o644); err != nil {
			return nil, &CPUError{Problem: "the quota cannot be set", Err: errors.Join(err, os.Remove(m.dir)), hint: cpuHint}
		}
	}
	return m, nil
}

func (g *cpuGroup) close() error { return removeCgroup(g.dir) }

// cpuMember is the cgroup of one process.
type cpuMember struct{ dir string }

// leave removes the cgroup, whose process has ended.
func (m *cpuMember) leave() error { return removeCgroup(m.dir) }

// removeCgroup removes an empty cgroup. The kernel takes a moment to let go of a process
// that was waited for.
func removeCgroup(dir string) error {
	var err error
	for range 100 {
		if err = os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("removing cgroup: %w", err)
}

// cpuTime is the CPU time that a process has used, by the scheduler's own count of each
// of its threads; 0 when that is not known.
func cpuTime(pid int) time.Duration {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0
	}
	var sum time.Duration
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // it has just ended
		}
		ns, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			return 0
		}
		sum += time.Duration(n)
	}
	return sum
}

// peakMemoryMB is the greatest resident memory of a process so far, rounded up; 0 when it
// is not known.
func peakMemoryMB(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kb, err := strconv.Atoi(fields[0])
	if err != nil {
		return 0
	}
	return (kb + 1023) / 1024
}

package replay

import (
	"bufio"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
	"time"
)

// machine reads what the kernel says about the CPU time that this process could have had. fsys is the root
// of the file system; where a file is missing, as outside Linux, its part reads as unknown.
type machine struct{ fsys fs.FS }

// kernelUse are running totals of the kernel.
type kernelUse struct {
	throttledPeriods int64 // of a CPU quota: how often the group ran out of it
	throttled        time.Duration
	steal, total     int64 // ticks of all processors: taken by the hypervisor, and all
}

// read returns the totals so far.
func (m machine) read() kernelUse {
	var u kernelUse
	for dir := range m.groups() {
		stat := m.fields(path.Join(dir, "cpu.stat"))
		u.throttledPeriods += stat["nr_throttled"]
		u.throttled += time.Duration(stat["throttled_usec"])*time.Microsecond + time.Duration(stat["throttled_time"])
	}
	if f, err := m.fsys.Open("proc/stat"); err == nil {
		defer func() { _ = f.Close() }()
		s := bufio.NewScanner(f)
		s.Scan()
		// cpu user nice system idle iowait irq softirq steal guest guest_nice; guests are in user already.
		for i, word := range strings.Fields(s.Text()) {
			n, err := strconv.ParseInt(word, 10, 64)
			if i == 0 || i > 8 || err != nil {
				continue
			}
			u.total += n
			if i == 8 {
				u.steal = n
			}
		}
	}
	return u
}

// quota is the number of processors that the tightest quota of the process' control groups allows;
// +Inf without one.
func (m machine) quota() float64 {
	cpus := math.Inf(1)
	for dir := range m.groups() {
		if b, err := fs.ReadFile(m.fsys, path.Join(dir, "cpu.max")); err == nil { // version 2: "max 100000"
			limit, period, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
			cpus = min(cpus, share(limit, period))
		}
		q, err1 := fs.ReadFile(m.fsys, path.Join(dir, "cpu.cfs_quota_us"))
		p, err2 := fs.ReadFile(m.fsys, path.Join(dir, "cpu.cfs_period_us"))
		if err1 == nil && err2 == nil { // version 1
			cpus = min(cpus, share(strings.TrimSpace(string(q)), strings.TrimSpace(string(p))))
		}
	}
	return cpus
}

func share(limit, period string) float64 {
	l, err1 := strconv.ParseFloat(limit, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err1 != nil || err2 != nil || l <= 0 || p <= 0 {
		return math.Inf(1) // "max" and -1 are no limit
	}
	return l / p
}

// groups yields the directories of the process' own control group and of those around it, whose limits hold
// as well. In a container the group's own path may not be there: then the mount's root is the group.
func (m machine) groups() map[string]bool {
	dirs := map[string]bool{}
	b, err := fs.ReadFile(m.fsys, "proc/self/cgroup")
	if err != nil {
		return dirs
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		parts := strings.SplitN(line, ":", 3) // 4:cpu,cpuacct:/user.slice, or 0::/user.slice
		if len(parts) != 3 {
			continue
		}
		var root string
		switch {
		case parts[0] == "0" && parts[1] == "":
			root = "sys/fs/cgroup"
		case strings.Contains(","+parts[1]+",", ",cpu,"):
			root = "sys/fs/cgroup/cpu"
		default:
			continue
		}
		for dir := path.Join(root, parts[2]); ; dir = path.Dir(dir) {
			dirs[dir] = true
			if dir == root || len(dir) < len(root) {
				break
			}
		}
	}
	return dirs
}

// fields reads a file of lines "name number".
func (m machine) fields(name string) map[string]int64 {
	values := map[string]int64{}
	b, err := fs.ReadFile(m.fsys, name)
	if err != nil {
		return values
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		key, value, _ := strings.Cut(line, " ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			values[key] = n
		}
	}
	return values
}

package replay

import (
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func files(m map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for k, v := range m {
		fsys[k] = &fstest.MapFile{Data: []byte(v)}
	}
	return fsys
}

func TestMachine(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		quota float64
		use   kernelUse
	}{
		{"nothing known", nil, math.Inf(1), kernelUse{}},
		{"version 2, the tightest group counts", map[string]string{
			"proc/self/cgroup":            "0::/a/b\n",
			"sys/fs/cgroup/a/cpu.max":     "20000 100000\n",
			"sys/fs/cgroup/a/b/cpu.max":   "max 100000\n",
			"sys/fs/cgroup/a/cpu.stat":    "usage_usec 5\nnr_periods 10\nnr_throttled 7\nthrottled_usec 1500\n",
			"sys/fs/cgroup/a/b/cpu.stat":  "nr_throttled 0\nthrottled_usec 0\n",
			"proc/stat":                   "cpu  10 1 2 80 3 1 1 2 5 5\ncpu0 1 1 1\n",
			"sys/fs/cgroup/other/cpu.max": "1 100000\n",
		}, 0.2, kernelUse{throttledPeriods: 7, throttled: 1500 * time.Microsecond, steal: 2, total: 100}},
		{"version 2 in a container", map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000",
		}, 1.5, kernelUse{}},
		{"version 1", map[string]string{
			"proc/self/cgroup":                         "5:memory:/x\n4:cpu,cpuacct:/x\n",
			"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us":     "10000\n",
			"sys/fs/cgroup/cpu/x/cpu.cfs_period_us":    "100000\n",
			"sys/fs/cgroup/cpu/x/cpu.stat":             "nr_throttled 3\nthrottled_time 2000000\n",
			"sys/fs/cgroup/memory/x/cpu.cfs_quota_us":  "1\n",
			"sys/fs/cgroup/memory/x/cpu.cfs_period_us": "100000\n",
		}, 0.1, kernelUse{throttledPeriods: 3, throttled: 2 * time.Millisecond}},
		{"version 1 without a quota", map[string]string{
			"proc/self/cgroup": "4:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
		}, math.Inf(1), kernelUse{}},
		{"nonsense", map[string]string{"proc/self/cgroup": "x\n\n::\n", "proc/stat": "cpu a b", "sys/fs/cgroup/cpu.max": "0 0"}, math.Inf(1), kernelUse{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := machine{files(tt.files)}
			if q := m.quota(); q != tt.quota {
				t.Errorf("quota %v, want %v", q, tt.quota)
			}
			if u := m.read(); u != tt.use {
				t.Errorf("use %+v, want %+v", u, tt.use)
			}
		})
	}
}

// TestVerdict: every way in which the generator can be the limit makes the run invalid and is named.
func TestVerdict(t *testing.T) {
	good := ClientUse{CPU: time.Second, Wall: 10 * time.Second, CPUs: 2, GCPauseMax: time.Millisecond, GCPauses: 20 * time.Millisecond}
	tests := []struct {
		name   string
		change func(*ClientUse)
		p50    time.Duration
		sched  time.Duration
		want   string
	}{
		{"good", func(*ClientUse) {}, time.Millisecond, 900 * time.Microsecond, ""},
		{"late within 5 % of a slow server", func(*ClientUse) {}, 100 * time.Millisecond, 4900 * time.Microsecond, ""},
		{"late", func(*ClientUse) {}, 10 * time.Millisecond, 1100 * time.Microsecond, "held requests up"},
		{"busy", func(u *ClientUse) { u.CPU = 18 * time.Second }, 1, 1, "of the CPU it may use"},
		{"busy for its quota", func(u *ClientUse) { u.CPUs = 0.1 }, 1, 1, "of the CPU it may use"},
		{"throttled", func(u *ClientUse) { u.ThrottledPeriods, u.Throttled = 3, time.Second }, 1, 1, "throttled"},
		{"robbed", func(u *ClientUse) { u.StealRatio = 0.06 }, 1, 1, "hypervisor"},
		{"collecting garbage", func(u *ClientUse) { u.GCPauses = 200 * time.Millisecond }, 1, 1, "garbage"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := good
			tt.change(&u)
			c := verdict(u, tt.p50, tt.sched, false)
			if (c.Verdict == "valid") != (tt.want == "") || !strings.Contains(strings.Join(c.Reasons, "; "), tt.want) || len(c.Reasons) > 1 {
				t.Errorf("%s %q, want %q", c.Verdict, c.Reasons, tt.want)
			}
		})
	}
	u := good
	u.CPU, u.StealRatio, u.ThrottledPeriods = 20*time.Second, 1, 1
	if c := verdict(u, 1, time.Second, true); len(c.Reasons) != 4 || !slices.ContainsFunc(c.Reasons, func(s string) bool { return strings.Contains(s, "embedded") }) {
		t.Errorf("not every reason is named: %q", c.Reasons)
	}
}

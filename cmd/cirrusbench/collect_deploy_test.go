package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

func readDeploy(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "collector", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkCollectFlags parses arguments of `collect` as the program does, and returns the time that it takes to end.
func checkCollectFlags(t *testing.T, args []string) (drain time.Duration) {
	t.Helper()
	cmd, rest, err := newRootCommand(&env{}).Find(append([]string{"collect"}, args...))
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err != nil || cmd.Name() != "collect" || cmd.Flags().NArg() > 0 {
		t.Fatalf("%q: %v, arguments %q", args, err, cmd.Flags().Args())
	}
	drain, err = cmd.Flags().GetDuration("drain-timeout")
	if err != nil {
		t.Fatal(err)
	}
	return drain
}

// TestSystemdUnit: the unit has sections and settings that there are, its command line is one of ours, and it is given
// the time to drain. Where systemd is, it judges itself.
func TestSystemdUnit(t *testing.T) {
	section, settings := "", map[string]string{}
	for line := range strings.Lines(string(readDeploy(t, "cirrusbench-collector.service"))) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = line
			if !slices.Contains([]string{"[Unit]", "[Service]", "[Install]"}, section) {
				t.Errorf("section %s", section)
			}
		default:
			name, value, ok := strings.Cut(line, "=")
			if !ok || !regexp.MustCompile(`^[A-Z][A-Za-z]+$`).MatchString(name) {
				t.Errorf("line %q", line)
			}
			if _, twice := settings[section+name]; twice {
				t.Errorf("%s is set twice", name)
			}
			settings[section+name] = value
		}
	}
	words := strings.Fields(settings["[Service]ExecStart"])
	if len(words) < 2 || words[1] != "collect" {
		t.Fatalf("ExecStart %q", words)
	}
	drain := checkCollectFlags(t, words[2:])
	stop, err := time.ParseDuration(settings["[Service]TimeoutStopSec"] + "s")
	if err != nil || stop < drain+10*time.Second {
		t.Errorf("%v to stop, %v to drain, %v", stop, drain, err)
	}
	if settings["[Service]DynamicUser"] != "yes" || !strings.HasPrefix(words[slices.Index(words, "--dir")+1], "/var/lib/"+settings["[Service]StateDirectory"]+"/") {
		t.Error("the queue is not in the state directory of a user of its own")
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not here: the unit is checked by this test only")
		return
	}
	// It wants the binary and the files to be there.
	unit := string(readDeploy(t, "cirrusbench-collector.service"))
	unit = strings.ReplaceAll(unit, "/usr/local/bin/cirrusbench", "/bin/true")
	file := filepath.Join(t.TempDir(), "cirrusbench-collector.service")
	if err := os.WriteFile(file, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", file).CombinedOutput(); err != nil || bytes.Contains(out, []byte("Unknown")) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestDockerfile: the last stage is empty but for what is copied, does not run as root, and starts the collector.
func TestDockerfile(t *testing.T) {
	text := strings.ReplaceAll(string(readDeploy(t, "Dockerfile")), "\\\n", " ")
	known := []string{"FROM", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"}
	last := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		if !slices.Contains(known, word) {
			t.Errorf("instruction %q", word)
		}
		if word == "FROM" {
			clear(last)
		}
		last[word] = rest
	}
	if last["FROM"] != "scratch" || last["RUN"] != "" || !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(last["USER"]) {
		t.Errorf("the last stage: %q", last)
	}
	var entry, args []string
	if err := errors.Join(json.Unmarshal([]byte(last["ENTRYPOINT"]), &entry), json.Unmarshal([]byte(last["CMD"]), &args)); err != nil {
		t.Fatal(err) // another form needs a shell, which is not there
	}
	if !slices.Equal(entry, []string{"/cirrusbench", "collect"}) {
		t.Errorf("entry point %q", entry)
	}
	checkCollectFlags(t, args)
}

// What of Kubernetes' objects the manifest uses, so that a misspelt field is found.
type (
	k8sMeta struct {
		Name        string            `yaml:"name"`
		Labels      map[string]string `yaml:"labels"`
		Annotations map[string]string `yaml:"annotations"`
	}
	k8sProbe struct {
		HTTPGet struct {
			Path string `yaml:"path"`
			Port string `yaml:"port"`
		} `yaml:"httpGet"`
		PeriodSeconds int `yaml:"periodSeconds"`
	}
	k8sResources struct {
		Requests map[string]string `yaml:"requests"`
		Limits   map[string]string `yaml:"limits"`
	}
	k8sContainer struct {
		Name  string   `yaml:"name"`
		Image string   `yaml:"image"`
		Args  []string `yaml:"args"`
		Ports []struct {
			Name          string `yaml:"name"`
			ContainerPort int    `yaml:"containerPort"`
		} `yaml:"ports"`
		LivenessProbe   k8sProbe     `yaml:"livenessProbe"`
		ReadinessProbe  k8sProbe     `yaml:"readinessProbe"`
		Resources       k8sResources `yaml:"resources"`
		SecurityContext struct {
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct {
				Drop []string `yaml:"drop"`
			} `yaml:"capabilities"`
		} `yaml:"securityContext"`
		VolumeMounts []struct {
			Name      string `yaml:"name"`
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	k8sObject struct {
		APIVersion string  `yaml:"apiVersion"`
		Kind       string  `yaml:"kind"`
		Metadata   k8sMeta `yaml:"metadata"`
		Spec       struct {
			Ports []struct {
				Name       string `yaml:"name"`
				Port       int    `yaml:"port"`
				TargetPort string `yaml:"targetPort"`
			} `yaml:"ports"`
			ServiceName string `yaml:"serviceName"`
			Replicas    int    `yaml:"replicas"`
			Selector    any    `yaml:"selector"` // of a Service it is flat
			Template    struct {
				Metadata k8sMeta `yaml:"metadata"`
				Spec     struct {
					TerminationGracePeriodSeconds int   `yaml:"terminationGracePeriodSeconds"`
					AutomountServiceAccountToken  *bool `yaml:"automountServiceAccountToken"`
					SecurityContext               struct {
						RunAsNonRoot        bool   `yaml:"runAsNonRoot"`
						RunAsUser           int    `yaml:"runAsUser"`
						RunAsGroup          int    `yaml:"runAsGroup"`
						FSGroup             int    `yaml:"fsGroup"`
						FSGroupChangePolicy string `yaml:"fsGroupChangePolicy"`
						SeccompProfile      struct {
							Type string `yaml:"type"`
						} `yaml:"seccompProfile"`
					} `yaml:"securityContext"`
					Containers []k8sContainer `yaml:"containers"`
					Volumes    []struct {
						Name   string `yaml:"name"`
						Secret struct {
							SecretName  string `yaml:"secretName"`
							DefaultMode int    `yaml:"defaultMode"`
						} `yaml:"secret"`
					} `yaml:"volumes"`
				} `yaml:"spec"`
			} `yaml:"template"`
			VolumeClaimTemplates []struct {
				Metadata k8sMeta `yaml:"metadata"`
				Spec     struct {
					AccessModes []string     `yaml:"accessModes"`
					Resources   k8sResources `yaml:"resources"`
				} `yaml:"spec"`
			} `yaml:"volumeClaimTemplates"`
		} `yaml:"spec"`
	}
)

// TestKubernetesManifest reads the manifest strictly and holds its parts against each other and against our flags.
func TestKubernetesManifest(t *testing.T) {
	objects := map[string]k8sObject{}
	for doc := range bytes.SplitSeq(readDeploy(t, "kubernetes.yaml"), []byte("\n---\n")) {
		var o k8sObject
		if err := yaml.Load(doc, &o, yaml.WithKnownFields()); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		objects[o.APIVersion+" "+o.Kind] = o
	}
	service, ok1 := objects["v1 Service"]
	set, ok2 := objects["apps/v1 StatefulSet"]
	if !ok1 || !ok2 || len(objects) != 2 {
		t.Fatalf("objects %v", len(objects))
	}
	pod := set.Spec.Template.Spec
	c := pod.Containers[0]
	drain := checkCollectFlags(t, c.Args)
	if grace := time.Duration(pod.TerminationGracePeriodSeconds) * time.Second; grace < drain+10*time.Second {
		t.Errorf("%v to stop, %v to drain", grace, drain)
	}
	label := map[string]any{"app.kubernetes.io/name": "cirrusbench-collector"}
	got, _ := service.Spec.Selector.(map[string]any)
	if set.Spec.ServiceName != service.Metadata.Name || got["app.kubernetes.io/name"] != label["app.kubernetes.io/name"] ||
		set.Spec.Template.Metadata.Labels["app.kubernetes.io/name"] != label["app.kubernetes.io/name"] {
		t.Error("service, set and pod do not belong together")
	}
	if c.Ports[0].Name != service.Spec.Ports[0].TargetPort || c.LivenessProbe.HTTPGet.Path != "/livez" || c.ReadinessProbe.HTTPGet.Path != "/readyz" ||
		c.LivenessProbe.HTTPGet.Port != c.Ports[0].Name || c.ReadinessProbe.HTTPGet.Port != c.Ports[0].Name {
		t.Error("ports and probes do not belong together")
	}
	if !pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.RunAsUser == 0 || !c.SecurityContext.ReadOnlyRootFilesystem || c.SecurityContext.AllowPrivilegeEscalation == nil {
		t.Error("it may do more than it needs")
	}
	mounts := map[string]bool{}
	for _, m := range c.VolumeMounts {
		mounts[m.Name] = true
	}
	if !mounts[pod.Volumes[0].Name] || !mounts[set.Spec.VolumeClaimTemplates[0].Metadata.Name] || len(mounts) != 2 {
		t.Errorf("mounts %v", mounts)
	}
}

// Package validate holds the manifests of this directory against Kubernetes' own types. It is a module of its own, so that
// these types do not become a dependency of the program.
package validate

import (
	"os"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// readJob decodes a manifest strictly: an unknown or repeated field, or a value of a wrong type, is an error.
func readJob(data []byte) (*batchv1.Job, error) {
	job := new(batchv1.Job)
	if err := yaml.UnmarshalStrict(data, job); err != nil {
		return nil, err
	}
	return job, nil
}

func TestJob(t *testing.T) {
	data, err := os.ReadFile("../../job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	job, err := readJob(data)
	if err != nil {
		t.Fatal(err)
	}
	if job.APIVersion != "batch/v1" || job.Kind != "Job" {
		t.Errorf("%s %s", job.APIVersion, job.Kind)
	}
	s := job.Spec
	if s.CompletionMode == nil || *s.CompletionMode != batchv1.IndexedCompletion {
		t.Error("the job is not Indexed")
	}
	if s.Completions == nil || s.Parallelism == nil || *s.Completions != *s.Parallelism {
		t.Error("not all shards run at once: they would wait for each other for ever")
	}
	if s.BackoffLimit == nil || *s.BackoffLimit != 0 || s.Template.Spec.RestartPolicy != corev1.RestartPolicyNever {
		t.Error("a shard would be started again")
	}
	p := s.Template.Spec
	if p.ServiceAccountName != "" || p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken {
		t.Error("the pods have a service account token")
	}
	if len(p.Containers) != 1 {
		t.Fatalf("%d containers", len(p.Containers))
	}
	c := p.Containers[0]
	if !c.Resources.Requests.Cpu().Equal(*c.Resources.Limits.Cpu()) || c.Resources.Requests.Cpu().MilliValue()%1000 != 0 {
		t.Error("the CPUs are not whole and guaranteed")
	}
	if sc := c.SecurityContext; sc == nil || sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem || *sc.AllowPrivilegeEscalation {
		t.Error("the container may write to its root, or gain privileges")
	}
	for _, v := range c.VolumeMounts {
		if !hasVolume(p.Volumes, v.Name) {
			t.Errorf("there is no volume %s", v.Name)
		}
	}
}

func hasVolume(all []corev1.Volume, name string) bool {
	for _, v := range all {
		if v.Name == name {
			return true
		}
	}
	return false
}

// TestStrict: the check above finds what a typing error makes.
func TestStrict(t *testing.T) {
	data, err := os.ReadFile("../../job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"completions:", "completion:"},
		{"backoffLimit: 0", "backoffLimit: none"},
		{"restartPolicy: Never", "restartpolicy: Never\n      restartPolicies: Never"},
		{"parallelism: 4", "parallelism: 4\n  parallelism: 5"},
		{"mountPath:", "mountpoint:"},
	} {
		bad := strings.Replace(string(data), c[0], c[1], 1)
		if bad == string(data) {
			t.Fatalf("the manifest has no %q", c[0])
		}
		if _, err := readJob([]byte(bad)); err == nil {
			t.Errorf("%q instead of %q is not found", c[1], c[0])
		}
	}
}

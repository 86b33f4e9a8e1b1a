package server_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedTestsExist holds docs/server.md, which says what test catches what mistake, to the tests that there
// are: a name may stand for all that begin with it.
func TestDocumentedTestsExist(t *testing.T) {
	doc, err := os.ReadFile("../../docs/server.md")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." && path != "../.." {
			return filepathSkip(err)
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)(\\*?)`").FindAllStringSubmatch(string(doc), -1)
	if len(names) < 20 {
		t.Fatalf("%d names of tests in the document", len(names))
	}
	for _, n := range names {
		want := "func " + n[1] + "("
		if n[2] != "" {
			want = "func " + n[1]
		}
		if !strings.Contains(all.String(), want) {
			t.Errorf("docs/server.md names %s%s, which is nowhere", n[1], n[2])
		}
	}
}

// filepathSkip leaves out a directory that cannot hold tests.
func filepathSkip(err error) error {
	if err != nil {
		return err
	}
	return filepath.SkipDir
}

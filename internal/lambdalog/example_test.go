package lambdalog_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cirrusbench/cirrusbench/internal/lambdalog"
)

func ExampleScan() {
	log := "START RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57 Version: $LATEST\n" +
		"REPORT RequestId: 5a56ac87-15c9-505b-93e2-7773063edf57\tDuration: 770.04 ms\tBilled Duration: 870 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 99.83 ms\t\n" +
		"REPORT RequestId: 0d8a3713-860e-57d8-a2aa-f143b77862fa\tDuration: soon ms\tBilled Duration: 48 ms\t\n"
	for v, err := range lambdalog.Scan(strings.NewReader(log), "app.log") {
		if bad, ok := errors.AsType[*lambdalog.LineError](err); ok {
			fmt.Println(bad)
			continue
		}
		fmt.Println(v.Source, v.Billed, "ms billed, cold:", v.Cold)
	}
	// Output:
	// app.log:2 870 ms billed, cold: true
	// app.log:3: reading Duration: "soon" is not a number of milliseconds
}

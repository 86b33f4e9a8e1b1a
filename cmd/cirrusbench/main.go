// Command cirrusbench measures and prices serverless Prometheus remote-write ingestion.
package main

import (
	"os"
)

func main() {
	os.Exit(run(os.Args[1:], processEnv()))
}

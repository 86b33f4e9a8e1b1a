// Command nothing is a Lambda function that does nothing: what aws-lambda-go itself costs, for the benchmarks.
package main

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(context.Context, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"statusCode":204}`), nil
	})
}

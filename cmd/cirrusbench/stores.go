package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/cirrusbench/cirrusbench/internal/store"
)

// openStore opens a location. Region, credentials and endpoint of S3 come from where the AWS SDK and the AWS CLI
// look for them: the environment (AWS_REGION, AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL_S3, …), ~/.aws,
// and the machine's or the container's role.
func openStore(ctx context.Context, location string) (store.Store, error) {
	return store.Open(ctx, location, store.WithAWS(func(ctx context.Context) (aws.Config, error) {
		return config.LoadDefaultConfig(ctx)
	}))
}

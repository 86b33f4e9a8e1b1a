//go:build !unix

package lambdahost_test

func burn() {}

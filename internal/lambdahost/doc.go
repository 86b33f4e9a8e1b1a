// Package lambdahost runs a Lambda function on this machine, without an account: it
// starts the bootstrap of a custom runtime in N environments, speaks the Runtime API
// with it and prints the START, END and REPORT lines that Lambda prints.
//
// [Host.Invoke] runs one invocation, [Host.Handler] is an HTTP API in front: it makes an
// event of payload format 2.0 of each request and an HTTP answer of what the function
// returns.
//
// # What is as in Lambda
//
// An environment serves one invocation at a time. It is started when none is idle, so
// that the first invocations are cold; the most recently used one comes first. When all
// are busy the invocation is throttled. An environment whose process ends or takes too
// long is replaced by a cold one. The duration of an invocation is from its event to
// the next question for an event; billed is that, with the time from the start of the
// process to its first question when it is cold, rounded up to milliseconds.
//
// With [Config.HoldCPU] the process of each environment gets, after its start, the CPU
// time that Lambda gives to its memory size: MB / 1769 of a CPU, by a quota of the
// kernel. See [CPUShare].
//
// # What is not
//
// There is no network between us, no sandbox, no memory limit; the environment is not
// frozen between invocations, so that work in the background costs nothing there. The
// start is the bare start of a process from a warm page cache: on Lambda loading the
// package and starting a micro-VM come on top, unbilled for the most part.
package lambdahost

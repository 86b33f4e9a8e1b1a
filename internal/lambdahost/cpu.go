package lambdahost

import "fmt"

// CPUError says why the CPU share of a memory size cannot be held here.
type CPUError struct {
	Problem string
	Err     error // the cause, or nil
	hint    string
}

// Error names the problem and the cause, without the hint.
func (e *CPUError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("holding the CPU share: %s: %v", e.Problem, e.Err)
	}
	return "holding the CPU share: " + e.Problem
}

// Unwrap returns the cause.
func (e *CPUError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *CPUError) Hint() string { return e.hint }

package cost

// UserError is a mistake in what the user gave, with a hint what to type next.
type UserError struct {
	msg, hint string
	err       error
	input     bool
}

// OfInput says that the mistake is in what a file holds, and not in how the program was called.
func (e *UserError) OfInput() bool { return e.input }

// inputError is a mistake in a file.
func inputError(msg, hint string) *UserError { return &UserError{msg: msg, hint: hint, input: true} }

func userError(msg, hint string) *UserError { return &UserError{msg: msg, hint: hint} }

// Error says what is wrong.
func (e *UserError) Error() string {
	if e.err != nil {
		return e.msg + ": " + e.err.Error()
	}
	return e.msg
}

// Hint says what to do about it.
func (e *UserError) Hint() string { return e.hint }

// Unwrap returns the cause, if any.
func (e *UserError) Unwrap() error { return e.err }
